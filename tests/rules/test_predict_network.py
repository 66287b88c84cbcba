"""Prediction as a job: on the native grid, in the right place, the same bytes twice."""

from __future__ import annotations

import json
import runpy
import shutil
import signal
import sys
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import LESIONS
from safetensors.torch import load_file, save_file

from array_studies import (
    BOX_STRATEGY,
    CONFIG,
    MODEL_SETTINGS,
    NATIVE,
    Box,
    fill,
    write_cohort,
    write_predictions,
    write_regions,
    write_resampled,
)
from petct.arrays import open_arrays
from petct.errors import PetctError
from petct.grids import Grid
from petct.manifests import digest_arrays, read_json
from petct.trained_models import digest_weights
from predict_network import predict_network
from train_network import train_network

SCRIPT = Path(__file__).parents[2] / "src" / "predict_network.py"
SETTINGS: dict[str, Any] = CONFIG["inference"] | {"threshold": 0.5, "overlap": 0.25}


def predict(
    trained: Path,
    output: Path,
    cohort: Path | None = None,
    model: Path | None = None,
    coarse: Path | None = None,
    regions: Path | None = None,
    code: str = "code",
    **settings: Any,
) -> dict[str, Any]:
    """Studies of the manifest."""
    model = model or trained / "fold-0" / "model.json"
    predict_network(
        cohort or trained / "test.tsv",
        model,
        [coarse] if coarse else [],
        [regions] if regions else [],
        trained / "resample_study",
        SETTINGS | settings,
        1,
        code,
        output,
    )
    studies: dict[str, Any] = read_json(output)["studies"]
    return studies


def read_mask(output: Path, study: str = "d") -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(output.parent / study / "lesions.nii.gz"))


def test_an_unseen_lesion_is_found_where_it_is(tmp_path: Path, trained: Path) -> None:
    output = tmp_path / "predictions.json"
    entry = predict(trained, output)["d"]
    manifest = read_json(output)
    # The digest that model.json states: which training a prediction is from.
    weights = read_json(trained / "fold-0" / "model.json")["digests"]["last"]
    experiment = MODEL_SETTINGS["experiment"] | {"fold": 0, "weights": weights}
    assert manifest == experiment | {"studies": {"d": entry}}
    assert {path.name for path in tmp_path.iterdir()} == {"predictions.json", "d", "lock"}

    image = sitk.ReadImage(tmp_path / entry["mask"])
    assert image.GetPixelID() == sitk.sitkUInt8
    assert Grid.from_image(image) == NATIVE
    mask, truth = sitk.GetArrayFromImage(image), fill(NATIVE.shape_zyx, *LESIONS["d"])
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.85
    centres = [np.argwhere(part).mean(axis=0) for part in (mask, truth)]
    assert centres[0] == pytest.approx(centres[1], abs=0.5)

    probability = np.load(tmp_path / entry["probability"])
    grid = open_arrays(trained / "resample_study" / "d" / "fine").grid
    assert Grid.from_json(entry["grid"]) == grid
    assert probability.dtype == np.float16 and probability.shape == grid.shape_zyx
    assert probability.min() >= 0 and probability.max() <= 1
    native = read_json(trained / "resample_study" / "d" / "study.json")["native"]
    assert entry["digest"] == digest_arrays(probability, mask, geometry=native)


def test_the_same_twice(tmp_path: Path, trained: Path) -> None:
    contents = []
    for name in ("one", "two"):
        predict(trained, tmp_path / name / "predictions.json")
        contents.append(files_of(tmp_path / name))
    assert len(contents[0]) == 4
    assert contents[0] == contents[1]


def test_the_threshold_is_a_probability(tmp_path: Path, trained: Path) -> None:
    volumes = []
    for threshold in (0.1, 0.5, 0.999999):
        output = tmp_path / str(threshold) / "predictions.json"
        predict(trained, output, threshold=threshold)
        volumes.append(int(read_mask(output).sum()))
    assert volumes[0] > volumes[1] > volumes[2]


def test_several_studies_and_a_fold_without_any(tmp_path: Path, trained: Path) -> None:
    cohort = write_cohort(tmp_path / "test.tsv", {"d": 0, "c": 0}, negative=("c",))
    studies = predict(trained, tmp_path / "both" / "predictions.json", cohort)
    assert list(studies) == ["c", "d"]
    assert not read_mask(tmp_path / "both" / "predictions.json", "c").any()
    nobody = write_cohort(tmp_path / "nobody.tsv", {})
    assert predict(trained, tmp_path / "none" / "predictions.json", nobody) == {}


def files_of(folder: Path) -> dict[str, bytes]:
    """The content of all files below a folder but for the lock."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def stamps_of(output: Path) -> dict[str, tuple[int, int]]:
    """What tells whether a study was predicted again: inode and time of its files, by study."""
    found = {}
    for manifest in output.parent.glob("*/prediction.json"):
        parts = [path.stat() for path in sorted(manifest.parent.iterdir())]
        inodes, times = [part.st_ino for part in parts], [part.st_mtime_ns for part in parts]
        found[manifest.parent.name] = (hash(tuple(inodes)), hash(tuple(times)))
    return found


def test_a_killed_job_goes_on_after_the_studies_that_it_finished(
    tmp_path: Path, trained: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cohort = write_cohort(tmp_path / "test.tsv", dict.fromkeys("dabc", 0), negative=("c",))
    output = tmp_path / "killed" / "predictions.json"
    # A real process; neighbouring windows that overlap much make it slow enough to be hit.
    job = get_context("fork").Process(
        target=predict, args=(trained, output, cohort), kwargs={"overlap": 0.8}
    )
    job.start()
    while not (output.parent / "d" / "prediction.json").exists():
        assert job.is_alive()
        time.sleep(0.001)
    job.kill()
    job.join()
    assert job.exitcode == -signal.SIGKILL
    before = stamps_of(output)
    assert "d" in before and len(before) < 4
    assert not output.exists()

    predict(trained, output, cohort, overlap=0.8)
    assert f"{len(before)} of 4 studies are predicted already and kept" in capfd.readouterr().out
    after = stamps_of(output)
    assert len(after) == 4
    assert {study: after[study] for study in before} == before

    uninterrupted = tmp_path / "whole" / "predictions.json"
    predict(trained, uninterrupted, cohort, overlap=0.8)
    assert files_of(output.parent) == files_of(uninterrupted.parent)


def test_what_changed_is_predicted_again_and_nothing_else(tmp_path: Path, trained: Path) -> None:
    cohort = write_cohort(tmp_path / "test.tsv", {"d": 0, "a": 0})
    output = tmp_path / "out" / "predictions.json"
    folder = tmp_path / "trained"
    for name in ("fold-0", "resample_study"):
        shutil.copytree(trained / name, folder / name)

    def redone(**settings: Any) -> set[str]:
        before = stamps_of(output)
        predict(folder, output, cohort, **settings)
        return {study for study, stamp in stamps_of(output).items() if stamp != before.get(study)}

    assert redone() == {"a", "d"}
    assert redone() == set()
    assert redone(threshold=0.6) == {"a", "d"}
    assert redone(code="edited") == {"a", "d"}
    assert redone() == {"a", "d"}

    study = folder / "resample_study" / "a" / "study.json"
    study.write_text(json.dumps(read_json(study) | {"digest": "of other voxels"}))
    assert redone() == {"a"}
    (output.parent / "d" / "lesions.nii.gz").unlink()
    assert redone() == {"d"}
    (output.parent / "a" / "prediction.json").write_text('{"key": ')
    assert redone() == {"a"}

    # Other weights, and model.json says so.
    network = load_file(folder / "fold-0" / "last.safetensors")
    other = {name: 2 * weights for name, weights in network.items()}
    save_file(other, folder / "fold-0" / "last.safetensors")
    model = read_json(folder / "fold-0" / "model.json")
    model["digests"]["last"] = digest_weights(other)
    (folder / "fold-0" / "model.json").write_text(json.dumps(model))
    assert redone() == {"a", "d"}
    # What hardware it was trained on does not matter.
    (folder / "fold-0" / "model.json").write_text(json.dumps(model | {"origin": {"gpu": "other"}}))
    assert redone() == set()

    # A study that left the cohort is not listed; when it comes back it is still there.
    write_cohort(tmp_path / "test.tsv", {"d": 0})
    assert redone() == set()
    assert list(read_json(output)["studies"]) == ["d"]
    write_cohort(tmp_path / "test.tsv", {"d": 0, "a": 0})
    assert redone() == set()
    assert list(read_json(output)["studies"]) == ["a", "d"]


def test_weights_that_are_not_the_models_are_refused(tmp_path: Path, trained: Path) -> None:
    shutil.copytree(trained / "fold-0", tmp_path / "fold-0")
    model, weights = tmp_path / "fold-0" / "model.json", tmp_path / "fold-0" / "last.safetensors"
    output = tmp_path / "out" / "predictions.json"
    content = weights.read_bytes()
    other = {name: 2 * tensor for name, tensor in load_file(weights).items()}

    save_file(other, weights)
    digest = r"its weights have digest [0-9a-f]{12}, expected [0-9a-f]{12}; remove .*model\.json"
    with pytest.raises(PetctError, match=digest):
        predict(trained, output, model=model)
    weights.write_bytes(content[:-10])
    with pytest.raises(PetctError, match=r"last\.safetensors is cut short or damaged"):
        predict(trained, output, model=model)
    weights.unlink()
    with pytest.raises(PetctError, match=r"last\.safetensors is gone, but model\.json beside it"):
        predict(trained, output, model=model)
    assert not output.exists()


def test_boxes_bound_the_prediction(tmp_path: Path, trained: Path) -> None:
    """The same weights, told to look into boxes: nothing outside, nothing without a box."""
    model = read_json(trained / "fold-0" / "model.json")
    model["strategy"] |= {"regions": "boxes"}
    (tmp_path / "model.json").write_text(json.dumps(model))
    weights = (trained / "fold-0" / "last.safetensors").read_bytes()
    (tmp_path / "last.safetensors").write_bytes(weights)
    whole = predict(trained, tmp_path / "whole" / "predictions.json")
    probability = np.load(tmp_path / "whole" / whole["d"]["probability"])
    z, y, x = np.unravel_index(np.argmax(probability), probability.shape)
    box: Box = (int(z) - 2, int(y) - 2, int(x) - 2, int(z) + 3, int(y) + 3, int(x) + 3)
    cohort = write_cohort(tmp_path / "test.tsv", {"d": 0, "a": 0})
    # The reference is for training alone.
    regions = write_regions(tmp_path / "regions.json", {"d": [box], "a": []}, {"a": [box]})
    output = tmp_path / "boxes" / "predictions.json"
    studies = predict(trained, output, cohort, tmp_path / "model.json", regions=regions)
    assert (studies["d"]["boxes"], studies["a"]["boxes"]) == (1, 0)
    found = np.load(output.parent / studies["d"]["probability"])
    inside = fill(found.shape, box) > 0
    assert found[inside].max() > 0.5 and not found[~inside].any()
    assert read_mask(output, "d").any()
    assert not read_mask(output, "a").any()
    assert not np.load(output.parent / studies["a"]["probability"]).any()


def test_a_prior_is_read_on_its_own_grid(tmp_path: Path) -> None:
    """Where CT and PET show nothing, a network learns to see what the coarse one saw."""
    for study, lesions in LESIONS.items():
        resampled = write_resampled(tmp_path, study, lesions)
        image = np.load(resampled / study / "fine" / "image.npy")
        np.save(resampled / study / "fine" / "image.npy", 0 * image)
    grid = open_arrays(resampled / "d" / "coarse").grid
    labels = {s: np.asarray(open_arrays(resampled / s / "coarse").label) for s in LESIONS}
    coarse = write_predictions(tmp_path / "coarse.json", grid, labels)
    cohort = write_cohort(tmp_path / "train.tsv", {"a": 1, "b": 1, "c": 1}, negative=("c",))
    settings = MODEL_SETTINGS | {"strategy": BOX_STRATEGY | {"regions": "body"}}
    model = tmp_path / "fold-0" / "model.json"
    train_network(cohort, [coarse], [], resampled, 0, settings, 1, "code", model)

    test = write_cohort(tmp_path / "test.tsv", {"d": 0})
    output = tmp_path / "out" / "predictions.json"
    predict(tmp_path, output, test, model, coarse)
    mask, truth = read_mask(output), fill(NATIVE.shape_zyx, *LESIONS["d"])
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.6
    zeros = {"d": np.zeros(grid.shape_zyx)}
    predict(tmp_path, output, test, model, write_predictions(tmp_path / "0.json", grid, zeros))
    assert not read_mask(output).any()
    with pytest.raises(PetctError, match="study d has no coarse predictions"):
        predict(tmp_path, output, test, model)


def test_command_line(tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = predict(trained, tmp_path / "one" / "predictions.json")
    output = tmp_path / "two" / "predictions.json"
    arguments = [
        *["--cohort", trained / "test.tsv", "--model", trained / "fold-0" / "model.json"],
        *["--coarse", "--regions", "--resampled", trained / "resample_study"],
        *["--settings", json.dumps(SETTINGS), "--threads", "1", "--code", "code"],
        *["--output", output],
    ]
    monkeypatch.setattr(sys, "argv", ["predict_network", *map(str, arguments)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    assert read_json(output)["studies"] == expected
