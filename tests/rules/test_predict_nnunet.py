"""nnU-Net's prediction as a job: on the native grid, in the right place, the same bytes twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from conftest import LESIONS, NNUNET_ARGUMENTS, NNUNET_SETTINGS
from nnunetv2.inference.export_prediction import (
    convert_predicted_logits_to_segmentation_with_correct_shape,
)
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

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
from petct.nnunet import CONFIGURATION, build_from_plans, read_plans
from petct.nnunet_cases import list_cases, read_image
from petct.nnunet_prediction import open_network, predict_cases, prepare_case
from petct.trained_models import load_weights
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


@pytest.mark.parametrize(("spacing_mm", "mirroring"), [(4.0, False), (5.0, True)])
def test_the_same_as_nnunets_own_predictor(
    trained: Path, planned: Path, trained_nnunet: Path, spacing_mm: float, mirroring: bool
) -> None:
    """On the case's own voxels, where nothing is resampled, and on others, where nnU-Net does it.

    nnU-Net adds its windows up in float16, which tells probabilities apart by some thousandths,
    and by more in a few voxels at an image's corners, where a window hardly weighs.
    """
    plans, dataset, _ = read_plans(planned)
    plans["configurations"][CONFIGURATION]["spacing"] = [spacing_mm] * 3
    weights = load_weights(trained_nnunet / "model.json", "last")
    strategy = NNUNET_SETTINGS["strategy"]
    (case,) = list_cases(["d"], trained / "resample_study", strategy, [], [], False).values()
    network, windows = open_network(
        plans, dataset, weights, SETTINGS | {"mirroring": mirroring}, torch.device("cpu")
    )
    prepared = prepare_case(case, plans, dataset)
    assert (prepared.properties is None) == (spacing_mm == 4.0)
    shape = (case.stop_zyx[0], case.stop_zyx[1], case.stop_zyx[2])
    found = predict_cases(network, windows, [prepared], plans, dataset, shape, torch.device("cpu"))

    manager = PlansManager(plans)
    configuration = manager.get_configuration(CONFIGURATION)
    predictor = nnUNetPredictor(
        use_mirroring=mirroring, device=torch.device("cpu"), allow_tqdm=False
    )
    predictor.manual_initialization(
        build_from_plans(plans, dataset, False), manager, configuration, [weights], dataset,
        "nnUNetTrainer", (0, 1, 2),
    )  # fmt: skip
    image, geometry = read_image(case)
    data, _, properties = configuration.preprocessor_class(verbose=False).run_case_npy(
        image, None, geometry, manager, configuration, dataset
    )
    logits = predictor.predict_logits_from_preprocessed_data(torch.from_numpy(data))
    _, expected = convert_predicted_logits_to_segmentation_with_correct_shape(
        logits.float(), manager, configuration, predictor.label_manager, properties,
        return_probabilities=True, num_threads_torch=1,
    )  # fmt: skip
    assert expected[1].max() > 0.9
    assert (np.abs(found - expected[1]) > 4e-3).mean() < 1e-3
    assert ((found > 0.5) != (expected[1] > 0.5)).mean() < 1e-3
