"""Thresholds on a row of voxels whose SUVs are written down."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from petct.errors import PetctError
from petct.grids import Grid
from petct.manifests import digest_arrays, write_json
from predict_threshold import above_threshold, predict_threshold

SRC = Path(__file__).parents[2] / "src"
GRID = Grid((1, 1, 5), (2.0, 3.0, 4.0), (7.0, -8.0, 9.0), (-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0))
SUV = np.array([[[0.0, 3.5, 4.0, 4.5, 9.0]]], np.float32)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A cohort table with two folds and the converted studies."""
    converted = tmp_path / "convert_study"
    cohort = tmp_path / "all.tsv"
    cohort.write_text(
        "study\tpatient\tpositive\tfold\ttrains\na\t001\tTrue\t0\tTrue\nb\t002\tFalse\t1\tTrue\n"
    )
    for study, suv in (("a", SUV), ("b", SUV * 2)):
        (converted / study).mkdir(parents=True)
        sitk.WriteImage(GRID.to_image(suv), converted / study / "suv.nii.gz")
        write_json(converted / study / "study.json", {"digest": digest_arrays(suv)})
    return cohort, converted


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("suv", 4.0, [0, 0, 0, 1, 1]),  # above, not at
        ("share_of_maximum", 0.5, [0, 0, 0, 1, 1]),  # at 4.5 and above
        ("share_of_maximum", 0.41, [0, 0, 1, 1, 1]),  # above 3.69
    ],
)
def test_mask(kind: str, value: float, expected: list[int]) -> None:
    assert above_threshold(SUV, kind, value).astype(int).ravel().tolist() == expected


def test_share_of_nothing_is_nothing() -> None:
    assert not above_threshold(np.zeros((1, 1, 5), np.float32), "share_of_maximum", 0.41).any()


def test_unknown_kind() -> None:
    with pytest.raises(PetctError, match="got 'otsu', expected 'suv' or 'share_of_maximum'"):
        above_threshold(SUV, "otsu", 1.0)


def test_masks_of_the_fold_and_a_manifest(folders: tuple[Path, Path], tmp_path: Path) -> None:
    cohort, converted = folders
    output = tmp_path / "fold-1" / "predictions.json"
    predict_threshold(cohort, converted, "suv_4", 1, {"kind": "suv", "value": 4.0}, "code", output)
    manifest = json.loads(output.read_text())
    assert {key: manifest[key] for key in ("strategy", "model", "cohort", "fold")} == {
        "strategy": "threshold",
        "model": "suv_4",
        "cohort": "none",
        "fold": 1,
    }
    assert list(manifest["studies"]) == ["b"]
    image = sitk.ReadImage(output.parent / manifest["studies"]["b"]["mask"])
    assert image.GetPixelID() == sitk.sitkUInt8
    assert sitk.GetArrayFromImage(image).ravel().tolist() == [0, 1, 1, 1, 1]
    assert Grid.from_image(image) == GRID

    first = output.read_bytes()
    predict_threshold(cohort, converted, "suv_4", 1, {"kind": "suv", "value": 4.0}, "code", output)
    assert output.read_bytes() == first


def test_a_changed_study_or_threshold_is_done_again_and_nothing_else(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    cohort, converted = folders
    cohort.write_text(cohort.read_text().replace("False\t1", "False\t0"))
    output = tmp_path / "fold-0" / "predictions.json"

    def redone(value: float = 4.0) -> set[str]:
        masks = {study: output.parent / study / "lesions.nii.gz" for study in "ab"}
        before = {s: mask.exists() and mask.stat().st_mtime_ns for s, mask in masks.items()}
        settings = {"kind": "suv", "value": value}
        predict_threshold(cohort, converted, "suv", 0, settings, "code", output)
        return {study for study, mask in masks.items() if mask.stat().st_mtime_ns != before[study]}

    assert redone() == {"a", "b"}
    first = output.read_bytes()
    output.unlink()
    assert redone() == set()
    assert output.read_bytes() == first
    write_json(converted / "b" / "study.json", {"digest": "of other voxels"})
    assert redone() == {"b"}
    assert redone(5.0) == {"a", "b"}


def test_missing_study_stops_with_one_line(folders: tuple[Path, Path], tmp_path: Path) -> None:
    cohort, converted = folders
    (converted / "a" / "suv.nii.gz").unlink()
    arguments = [
        *["--cohort", cohort, "--converted", converted, "--model", "suv_4", "--fold", "0"],
        *["--settings", '{"kind": "suv", "value": 4.0}', "--code", "c"],
        *["--output", tmp_path / "p.json"],
    ]
    done = subprocess.run(
        [sys.executable, str(SRC / "predict_threshold.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: study a: no SUV image at ")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "p.json").exists()
