"""Bins of two small studies, counted by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from array_studies import write_cohort, write_predictions
from measure_calibration import measure_calibration
from petct.arrays import save_arrays
from petct.errors import PetctError
from petct.grids import Grid
from petct.manifests import read_json, write_json
from petct.metrics import read_table

SRC = Path(__file__).parents[2] / "src"
GRID = Grid((3, 6, 6), (4.0, 4.0, 5.0), (1.0, 2.0, 3.0))
# The stored CT is in units of 1000 HU: body where it exceeds -0.5.
SETTINGS = {"grid": "fine", "bins": 4, "ct_above_hu": -500.0, "ct_limit_hu": 1000.0}
EXPERIMENT = {"strategy": "one_step", "model": "unet", "cohort": "all", "fold": 0}
COLUMNS = (
    "strategy model cohort fold study patient bin_low bin_high voxels probability_sum lesion_voxels"
)


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, Path]:
    """Fold 0 with studies 007 and neg, each a body of 3 x 4 x 4 voxels with a hole in the middle;
    fold 1 with another.
    """
    resampled = tmp_path / "resample_study"
    image = np.full((2, *GRID.shape_zyx), -1.0)
    image[0, :, 1:5, 1:5] = 0.05
    image[0, :, 2, 2] = -0.9
    label = np.zeros(GRID.shape_zyx, np.uint8)
    label[0, 1, 1:4] = 1
    label[2, 0, 0] = 1  # outside the body
    for study, lesions in (("007", label), ("neg", np.zeros_like(label))):
        uptake = np.zeros(GRID.shape_zyx, bool)
        save_arrays(resampled / study / "fine", image, lesions, uptake, GRID)
    probability = np.zeros(GRID.shape_zyx)
    probability[0, 1, 1:5] = [0.125, 0.5, 1.0, 0.75]
    probability[2, 0, 0] = 0.5
    predictions = tmp_path / "fold-0" / "predictions.json"
    write_predictions(predictions, GRID, {"007": probability, "neg": np.zeros(GRID.shape_zyx)})
    write_json(predictions, read_json(predictions) | EXPERIMENT)
    return {
        "predictions": predictions,
        "cohort": write_cohort(tmp_path / "test.tsv", {"neg": 0, "007": 0, "other": 1}, ("neg",)),
        "resampled": resampled,
        "output": tmp_path / "bins" / "fold-0.tsv",
    }


def test_rows(paths: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    measure_calibration(**paths, settings=SETTINGS)
    table = read_table(paths["output"])
    assert " ".join(table.columns) == COLUMNS
    assert table["study"].tolist() == ["007"] * 4 + ["neg"] * 4
    assert table["patient"].tolist() == table["study"].tolist()
    for key, value in EXPERIMENT.items():
        assert set(table[key]) == {value}
    assert table["bin_low"].tolist() == [0.0, 0.25, 0.5, 0.75] * 2
    assert table["bin_high"].tolist() == [0.25, 0.5, 0.75, 1.0] * 2
    # 48 voxels of the body; the voxel outside counts nowhere.
    assert table["voxels"].tolist() == [45, 0, 1, 2, 48, 0, 0, 0]
    assert table["probability_sum"].tolist() == [0.125, 0.0, 0.5, 1.75, 0.0, 0.0, 0.0, 0.0]
    assert table["lesion_voxels"].tolist() == [1, 0, 1, 1, 0, 0, 0, 0]
    assert capsys.readouterr().out.splitlines()[0] == (
        "007: 48 voxels of the body, 3 of them lesion; 1 voxels of lesions outside it are left out"
    )


def test_a_fold_without_studies_has_a_header(paths: dict[str, Path]) -> None:
    write_cohort(paths["cohort"], {"other": 1})
    measure_calibration(**paths, settings=SETTINGS)
    assert paths["output"].read_text() == COLUMNS.replace(" ", "\t") + "\n"


def test_a_missing_prediction_is_named(paths: dict[str, Path]) -> None:
    write_cohort(paths["cohort"], {"007": 0, "lost": 0})
    with pytest.raises(PetctError, match=r"no prediction for lost of fold 0"):
        measure_calibration(**paths, settings=SETTINGS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"origin_xyz_mm": (1.0, 2.0, 4.0)}, r"study 007: .* lies on Grid\(.*expected Grid\("),
        ({"shape_zyx": (3, 6, 5)}, r"study 007: .* lies on Grid\(.*expected Grid\("),
    ],
)
def test_another_grid_is_refused(
    paths: dict[str, Path], change: dict[str, Any], message: str
) -> None:
    manifest = read_json(paths["predictions"])
    manifest["studies"]["007"]["grid"] |= change
    write_json(paths["predictions"], manifest)
    with pytest.raises(PetctError, match=message):
        measure_calibration(**paths, settings=SETTINGS)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 6, 5), np.float16), r"study 007: .* has shape \(3, 6, 5\).*\(3, 6, 6\)"),
        (np.full((3, 6, 6), 2.0, np.float16), r"study 007: .*npy: got 2.0 .*expected 0 to 1"),
    ],
)
def test_an_array_that_is_no_probability_is_refused(
    paths: dict[str, Path], array: np.ndarray, message: str
) -> None:
    np.save(paths["predictions"].parent / "007" / "probability.npy", array)
    with pytest.raises(PetctError, match=message):
        measure_calibration(**paths, settings=SETTINGS)


def test_command_line(paths: dict[str, Path]) -> None:
    arguments = [str(part) for name, path in paths.items() for part in (f"--{name}", path)]
    done = subprocess.run(
        [
            *[sys.executable, str(SRC / "measure_calibration.py"), *arguments],
            *["--settings", json.dumps(SETTINGS), "--code", "c"],
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(read_table(paths["output"])) == 8
