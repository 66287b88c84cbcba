"""The mean of the folds is a mean, and a study that comes to nothing is not predicted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from petct.grids import Grid
from petct.image_files import load_volume
from petct.manifests import read_json, write_json
from petct.predictions import save_prediction
from predict_studies import average_folds, gather, list_studies

GRID = Grid((4, 4, 4), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
BODY = {"body_start_zyx": [0, 0, 0], "body_stop_zyx": [4, 4, 4], "native": GRID.to_json()}


def predict(folder: Path, study: str, place: int, probability: float) -> Path:
    """A fold's predictions.json of one study with one hot voxel."""
    array = np.zeros(GRID.shape_zyx, np.float32)
    array[place, 1, 1] = probability
    entry = save_prediction(array, GRID, BODY, 0.5, folder / study, "key", 1, 0.0)
    write_json(folder / "predictions.json", {"studies": {study: entry}})
    return folder / "predictions.json"


def test_the_mean_of_two_folds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0.75 and 0.5 in one voxel, 1 and 0 in another: only the first is above one half."""
    write_json(tmp_path / "resampled/s/study.json", BODY)
    folds = [predict(tmp_path / "fold-0", "s", 1, 0.75), predict(tmp_path / "fold-1", "s", 1, 0.5)]
    mean = tmp_path / "mean/predictions.json"
    average_folds(folds, tmp_path / "resampled", 0.5, "code", mean)
    probability = np.load(tmp_path / "mean/s/probability.npy")
    assert probability[1, 1, 1] == 0.625 and np.count_nonzero(probability) == 1
    mask, _ = load_volume(tmp_path / "mean/s/lesions.nii.gz")
    assert mask.sum() == 1 and mask[1, 1, 1] == 1
    entry = gather(mean, folds, tmp_path)["s"]
    assert entry["mask"] == "mean/s/lesions.nii.gz"
    assert entry["folds"] == ["fold-0/s/lesions.nii.gz", "fold-1/s/lesions.nii.gz"]
    capsys.readouterr()
    average_folds(folds, tmp_path / "resampled", 0.5, "code", mean)
    assert "1 of 1 studies are predicted already" in capsys.readouterr().out
    # Another prediction of a fold makes another mean.
    folds[1] = predict(tmp_path / "fold-1", "s", 1, 0.1)
    average_folds(folds, tmp_path / "resampled", 0.5, "code", mean)
    assert np.load(tmp_path / "mean/s/probability.npy")[1, 1, 1] == pytest.approx(0.425, abs=1e-3)
    assert not load_volume(tmp_path / "mean/s/lesions.nii.gz")[0].any()


def test_a_study_that_is_gone_leaves_no_mean(tmp_path: Path) -> None:
    write_json(tmp_path / "resampled/s/study.json", BODY)
    (tmp_path / "mean/gone").mkdir(parents=True)
    folds = [predict(tmp_path / "fold-0", "s", 1, 0.75)]
    average_folds(folds, tmp_path / "resampled", 0.5, "code", tmp_path / "mean/predictions.json")
    assert not (tmp_path / "mean/gone").exists()
    assert list(read_json(tmp_path / "mean/predictions.json")["studies"]) == ["s"]


def test_studies_that_were_left_out_are_not_predicted(tmp_path: Path) -> None:
    for study, status in (("007", "resampled"), ("b", "excluded")):
        write_json(tmp_path / f"resampled/{study}/study.json", {"status": status})
    (tmp_path / "index.tsv").write_text("study\tpatient\tformat\n007\tP1\tDICOM\nb\tP2\tDICOM\n")
    listed = list_studies(tmp_path / "index.tsv", tmp_path / "resampled", tmp_path / "out.tsv")
    assert listed.read_text() == "study\tpatient\n007\tP1\n"
