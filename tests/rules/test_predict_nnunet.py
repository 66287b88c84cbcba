"""nnU-Net's prediction as a job: on the native grid, in the right place, the same bytes twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from conftest import LESIONS, NNUNET_ARGUMENTS, NNUNET_SETTINGS

from array_studies import (
    BOX_STRATEGY,
    NATIVE,
    fill,
    write_predictions,
    write_regions,
)
from petct.arrays import open_arrays
from petct.grids import Grid
from petct.manifests import read_json
from plan_nnunet import plan_nnunet
from predict_nnunet import predict_nnunet
from train_nnunet import train_nnunet

SETTINGS: dict[str, Any] = {
    "threshold": 0.5,
    "checkpoint": "last",
    "mirroring": False,
    "windows_per_batch": 4,
}


def predict(
    trained: Path, planned: Path, folder: Path, output: Path, **settings: Any
) -> dict[str, Any]:
    predict_nnunet(
        trained / "test.tsv", folder / "model.json", planned / "plans.json", [], [],
        trained / "resample_study", SETTINGS | settings, 1, "code", output,
    )  # fmt: skip
    return dict(read_json(output)["studies"])


def test_an_unseen_lesion_is_found_where_it_is(
    tmp_path: Path, trained: Path, planned: Path, trained_nnunet: Path
) -> None:
    output = tmp_path / "predictions.json"
    entry = predict(trained, planned, trained_nnunet, output)["d"]
    manifest = read_json(output)
    weights = read_json(trained_nnunet / "model.json")["digests"]["last"]
    experiment = NNUNET_SETTINGS["experiment"] | {"fold": 0, "weights": weights}
    assert manifest == experiment | {"studies": {"d": entry}}
    image = sitk.ReadImage(tmp_path / entry["mask"])
    assert Grid.from_image(image) == NATIVE
    mask, truth = sitk.GetArrayFromImage(image), fill(NATIVE.shape_zyx, *LESIONS["d"])
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.85

    probability = np.load(tmp_path / entry["probability"])
    arrays = open_arrays(trained / "resample_study" / "d" / "fine")
    assert probability.shape == arrays.label.shape == tuple(entry["grid"]["shape_zyx"])
    inside = probability[arrays.label > 0].mean()
    assert inside > 0.5 > 0.1 > probability[arrays.label == 0].mean()
    # What is there already stays.
    before = (tmp_path / entry["mask"]).stat().st_mtime_ns
    assert predict(trained, planned, trained_nnunet, output)["d"] == entry
    assert (tmp_path / entry["mask"]).stat().st_mtime_ns == before
    # Elsewhere the same bytes come out; the eight reflections give something else, but no other
    # lesion.
    again = predict(trained, planned, trained_nnunet, tmp_path / "again" / "predictions.json")
    assert again["d"]["digest"] == entry["digest"]
    mirrored = tmp_path / "mirrored" / "predictions.json"
    flipped = predict(trained, planned, trained_nnunet, mirrored, mirroring=True)
    assert flipped["d"]["digest"] != entry["digest"]


def test_boxes_and_the_coarse_prediction_lead_the_fine_network(
    tmp_path: Path, trained: Path, coarse_inputs: tuple[Path, Path]
) -> None:
    coarse, regions = coarse_inputs
    resampled = trained / "resample_study"
    output = tmp_path / "plan" / "plans.json"
    settings = {"strategy": BOX_STRATEGY, "arguments": NNUNET_ARGUMENTS}
    plan_nnunet(trained / "train.tsv", [coarse], [regions], resampled, 0, settings, 1, output)
    training = NNUNET_SETTINGS["training"] | {"epochs": 1, "steps_per_epoch": 2}
    train_nnunet(
        trained / "train.tsv", output, [coarse], [regions], resampled, 0,
        NNUNET_SETTINGS | {"strategy": BOX_STRATEGY, "training": training},
        1, "code", tmp_path / "model.json",
    )  # fmt: skip
    assert read_json(tmp_path / "model.json")["in_channels"] == 3

    grid = open_arrays(resampled / "d" / "fine").grid
    box = (2, 3, 4, 9, 8, 10)
    shape = tuple(open_arrays(resampled / "d" / "coarse").label.shape)
    coarse_d = write_predictions(
        tmp_path / "coarse" / "predictions.json",
        open_arrays(resampled / "d" / "coarse").grid,
        {"d": np.zeros(shape)},
    )
    for name, boxes in (("one", [box]), ("none", [])):
        regions_d = write_regions(tmp_path / name / "regions.json", {"d": boxes}, {})
        predict_nnunet(
            trained / "test.tsv", tmp_path / "model.json", output, [coarse_d], [regions_d],
            resampled, SETTINGS, 1, "code", tmp_path / name / "predictions.json",
        )  # fmt: skip
        entry = read_json(tmp_path / name / "predictions.json")["studies"]["d"]
        probability = np.load(tmp_path / name / entry["probability"])
        inside = fill(grid.shape_zyx, *boxes) > 0
        assert entry["boxes"] == len(boxes)
        assert (probability[~inside] == 0).all()
        assert (probability[inside] > 0).all()
