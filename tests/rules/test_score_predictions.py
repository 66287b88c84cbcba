"""Scores of two small studies, counted by hand."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from petct.errors import PetctError
from petct.grids import Grid
from petct.metrics import read_table
from score_predictions import score_predictions

SRC = Path(__file__).parents[2] / "src"
# Voxels of 10 x 10 x 10 mm measure 1 mL.
GRID = Grid((4, 5, 6), (10.0, 10.0, 10.0), (1.0, 2.0, 3.0))
SETTINGS = {"dataset": "test", "connectivity": 18, "surface_tolerance_mm": 12.0}
COLUMNS = (
    "dataset study patient fold strategy model cohort positive reference_ml predicted_ml dice"
    " fp_volume_ml fn_volume_ml lesions_reference lesions_predicted lesions_found lesions_false"
    " lesions_found_iou10 lesions_false_iou10 lesions_found_iou50 lesions_false_iou50"
    " lesions_found_suvmax lesions_false_suvmax surface_dice hd95_mm reference_tlg predicted_tlg"
)


def write_mask(path: Path, voxels: list[tuple[int, int, int]], grid: Grid = GRID) -> None:
    mask = np.zeros(grid.shape_zyx, np.uint8)
    for voxel in voxels:
        mask[voxel] = 1
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(grid.to_image(mask), path)


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, Path]:
    """Fold 0 with a positive study 010 and a negative one, "neg"; fold 1 with another."""
    converted = tmp_path / "convert_study"
    predictions = tmp_path / "fold-0" / "predictions.json"
    cohort = tmp_path / "all.tsv"
    cohort.write_text(
        "study\tpatient\tpositive\tfold\ttrains\tlesion_ml\tdigest\n"
        "neg\tp2\tFalse\t0\tTrue\t0.0\tx\n"
        "010\t007\tTrue\t0\tTrue\t3.0\tx\n"
        "other\tp3\tTrue\t1\tTrue\t3.0\tx\n"
    )
    suv = np.full(GRID.shape_zyx, 2.0, np.float32)
    suv[0, 0, 1] = 6.0
    for study in ("neg", "010"):
        (converted / study).mkdir(parents=True)
        sitk.WriteImage(GRID.to_image(suv), converted / study / "suv.nii.gz")
    write_mask(converted / "010" / "lesions.nii.gz", [(0, 0, 0), (0, 0, 1), (3, 4, 5)])
    write_mask(converted / "neg" / "lesions.nii.gz", [])
    write_mask(predictions.parent / "010" / "lesions.nii.gz", [(0, 0, 1), (0, 4, 0)])
    write_mask(predictions.parent / "neg" / "lesions.nii.gz", [(1, 1, 1), (1, 1, 2)])
    write_manifest(predictions, {"neg", "010"})
    return {
        "predictions": predictions,
        "cohort": cohort,
        "converted": converted,
        "output": tmp_path / "scores" / "fold-0.tsv",
    }


def write_manifest(path: Path, studies: set[str]) -> None:
    value: dict[str, Any] = {
        "strategy": "one_step",
        "model": "unet",
        "cohort": "all",
        "fold": 0,
        "studies": {s: {"mask": f"{s}/lesions.nii.gz", "digest": "x"} for s in studies},
    }
    path.write_text(json.dumps(value))


@pytest.mark.parametrize("threads", [1, 2])
def test_rows(paths: dict[str, Path], threads: int) -> None:
    score_predictions(**paths, settings=SETTINGS, threads=threads)
    table = read_table(paths["output"])
    assert " ".join(table.columns) == COLUMNS
    positive, negative = table.to_dict("records")
    experiment = {
        "dataset": "test",
        "fold": 0,
        "strategy": "one_step",
        "model": "unet",
        "cohort": "all",
    }
    assert positive == {
        **experiment,
        "study": "010",
        "patient": "007",
        "positive": True,
        "reference_ml": 3.0,
        "predicted_ml": 2.0,
        "dice": 0.4,
        "fp_volume_ml": 1.0,
        "fn_volume_ml": 1.0,
        "lesions_reference": 2,
        "lesions_predicted": 2,
        "lesions_found": 1,
        "lesions_false": 1,
        # One voxel of two is shared, the hotter one; of the false lesion nothing.
        **{"lesions_found_iou10": 1, "lesions_false_iou10": 1},
        **{"lesions_found_iou50": 1, "lesions_false_iou50": 1},
        **{"lesions_found_suvmax": 1, "lesions_false_suvmax": 1},
        # The reference's voxels are 10, 0 and 10 sqrt(3² + 5²) mm from the prediction's, these 0
        # and 40 mm from the reference's.
        "surface_dice": 3 / 5,
        "hd95_mm": 53.47856705,
        "reference_tlg": 2.0 + 6.0 + 2.0,
        "predicted_tlg": 6.0 + 2.0,
    }
    assert (negative["study"], negative["positive"]) == ("neg", False)
    assert math.isnan(negative["dice"])
    assert math.isnan(negative["fn_volume_ml"])
    assert math.isnan(negative["surface_dice"])
    assert math.isnan(negative["hd95_mm"])
    assert (negative["fp_volume_ml"], negative["lesions_false"]) == (2.0, 1)
    assert "\tnan\t" in paths["output"].read_text()


def test_other_folds_predictions_are_left_alone(paths: dict[str, Path]) -> None:
    write_manifest(paths["predictions"], {"neg", "010", "other"})
    score_predictions(**paths, settings=SETTINGS, threads=1)
    assert read_table(paths["output"])["study"].tolist() == ["010", "neg"]


def test_study_without_prediction_is_named(paths: dict[str, Path]) -> None:
    write_manifest(paths["predictions"], {"010"})
    with pytest.raises(PetctError, match=r"no prediction for neg of fold 0.*all\.tsv"):
        score_predictions(**paths, settings=SETTINGS, threads=1)
    assert not paths["output"].exists()


def test_missing_mask_is_named(paths: dict[str, Path]) -> None:
    (paths["predictions"].parent / "neg" / "lesions.nii.gz").unlink()
    with pytest.raises(PetctError, match=r"study neg: no image at .*lesions\.nii\.gz"):
        score_predictions(**paths, settings=SETTINGS, threads=1)


@pytest.mark.parametrize(
    "grid",
    [
        Grid((4, 5, 5), GRID.spacing_xyz_mm, GRID.origin_xyz_mm),
        Grid(GRID.shape_zyx, (10.0, 10.0, 9.99), GRID.origin_xyz_mm),
        Grid(GRID.shape_zyx, GRID.spacing_xyz_mm, (1.0, 2.0, 3.1)),
        Grid(
            GRID.shape_zyx, GRID.spacing_xyz_mm, GRID.origin_xyz_mm, (-1, 0, 0, 0, -1, 0, 0, 0, 1)
        ),
    ],
    ids=["shape", "spacing", "origin", "direction"],
)
def test_other_grid_is_refused_and_both_are_named(paths: dict[str, Path], grid: Grid) -> None:
    write_mask(paths["predictions"].parent / "neg" / "lesions.nii.gz", [], grid)
    with pytest.raises(PetctError, match=r"study neg: .* lies on Grid\(.*expected.*Grid\("):
        score_predictions(**paths, settings=SETTINGS, threads=1)


def test_rounding_of_the_origin_is_no_other_grid(paths: dict[str, Path]) -> None:
    grid = Grid(GRID.shape_zyx, (10.0, 10.0, 10.00001), (1.0, 2.0, 3.0001))
    write_mask(paths["predictions"].parent / "neg" / "lesions.nii.gz", [], grid)
    score_predictions(**paths, settings=SETTINGS, threads=1)


def test_command_line(paths: dict[str, Path]) -> None:
    arguments = [
        *["--predictions", paths["predictions"], "--cohort", paths["cohort"]],
        *["--converted", paths["converted"], "--output", paths["output"]],
        *["--settings", json.dumps(SETTINGS), "--threads", "2", "--code", "c"],
    ]
    done = subprocess.run(
        [sys.executable, str(SRC / "score_predictions.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "010: Dice 0.400" in done.stdout
    assert len(read_table(paths["output"])) == 2
