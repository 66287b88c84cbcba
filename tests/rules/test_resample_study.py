"""From native images to the training format: the body's box, the grids and what they hold."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from array_studies import (
    BODY,
    LESION_SUV,
    NATIVE,
    ORGAN_SUV,
    PREPROCESSING,
    fill,
    write_converted,
    write_excluded,
)
from petct.arrays import open_arrays
from petct.errors import DamagedFileError, PetctError
from petct.grids import Grid
from petct.image_files import save_volume
from petct.manifests import read_json
from resample_study import include_lesions, resample_study

SCRIPT = Path(__file__).parents[2] / "src" / "resample_study.py"
LESION = (8, 9, 8, 14, 15, 14)  # 6 voxels of 5 mm by 6 and 6 of 4 mm: 17.28 mL
ORGAN = (15, 18, 16, 19, 24, 22)


def resample(folder: Path, converted: Path, **settings: Any) -> dict[str, Any]:
    output = folder / "out" / "a" / "study.json"
    resample_study(converted, PREPROCESSING | settings, output)
    manifest: dict[str, Any] = read_json(output)
    return manifest


def test_a_study_on_both_grids(tmp_path: Path) -> None:
    converted = write_converted(tmp_path, "a", [LESION], [ORGAN], patient="p")
    manifest = resample(tmp_path, converted)
    assert {key: manifest[key] for key in ("study", "patient", "status", "positive", "grids")} == {
        "study": "a",
        "patient": "p",
        "status": "resampled",
        "positive": True,
        "grids": ["coarse", "fine"],
    }
    assert manifest["lesion_ml"] == pytest.approx(6 * 6 * 6 * 0.08)
    assert Grid.from_json(manifest["native"]) == NATIVE
    # SUV 1, smoothed over 10 mm, is above 0.15 one voxel beyond the body; 8 mm are two voxels.
    assert manifest["body_start_zyx"] == [start - 3 for start in BODY[:3]] == [2, 3, 1]
    assert manifest["body_stop_zyx"] == [stop + 3 for stop in BODY[3:]] == [24, 29, 27]

    cut = NATIVE.cut((2, 3, 1), (22, 26, 26))  # 110 x 104 x 104 mm
    for name, spacing_mm, shape in (("fine", 4.0, (28, 26, 26)), ("coarse", 8.0, (14, 13, 13))):
        arrays = open_arrays(tmp_path / "out" / "a" / name)
        assert arrays.grid == cut.respace((spacing_mm, spacing_mm, spacing_mm))
        assert arrays.grid.shape_zyx == arrays.image.shape[1:] == arrays.label.shape == shape
        assert (arrays.image.dtype, arrays.label.dtype) == (np.float16, np.uint8)
        ct, suv = np.asarray(arrays.image)
        assert (ct.min(), ct.max()) == (np.float16(-1000 / 1024), 0)
        assert suv.min() == 0
        for box, value in ((LESION, LESION_SUV), (ORGAN, ORGAN_SUV)):
            edges = np.array(box).reshape(2, 3) - [2, 3, 1]
            middle_mm = edges.mean(axis=0) * NATIVE.spacing_zyx_mm
            middle = tuple((middle_mm / spacing_mm).astype(int))
            assert suv[middle] == np.float16(np.log1p(value))
            listed = arrays.lesion_voxels if value == LESION_SUV else arrays.uptake_voxels
            assert middle in map(tuple, listed[:, 1:].tolist())
        # Every labelled voxel is listed, no listed hot voxel is labelled; one part each.
        assert len(arrays.lesion_voxels) == arrays.label.sum()
        assert not arrays.label[tuple(arrays.uptake_voxels[:, 1:].T)].any()
        assert set(arrays.lesion_voxels[:, 0]) == {1}
        volume_ml = arrays.label.sum() * arrays.grid.voxel_ml
        assert volume_ml == pytest.approx(17.28, rel=0.3)
        centre = arrays.lesion_voxels[:, 1:].mean(axis=0)
        expected = NATIVE.locate_index((10.5, 11.5, 10.5))
        found = arrays.grid.locate_index((centre[0], centre[1], centre[2]))
        assert found == pytest.approx(expected, abs=spacing_mm / 2)


def test_settings_of_the_values(tmp_path: Path) -> None:
    converted = write_converted(tmp_path, "a", [], [ORGAN])
    settings = {"suv_transform": "linear", "ct_limit_hu": 500.0, "uptake_above_suv": 7.0}
    manifest = resample(tmp_path, converted, **settings)
    assert not manifest["positive"]
    arrays = open_arrays(tmp_path / "out" / "a" / "fine")
    assert arrays.image[0].min() == -1.0
    assert arrays.image[1].max() == pytest.approx(ORGAN_SUV / 10, rel=1e-3)
    assert len(arrays.lesion_voxels) == len(arrays.uptake_voxels) == 0


def test_a_label_outside_the_body_is_kept(tmp_path: Path) -> None:
    # One voxel in the air: too little to be a part of the body.
    converted = write_converted(tmp_path, "a", [LESION, (0, 29, 10, 1, 30, 11)])
    manifest = resample(tmp_path, converted)
    assert manifest["body_start_zyx"] == [0, 3, 1]
    assert manifest["body_stop_zyx"] == [24, 30, 27]
    for grid in ("fine", "coarse"):
        arrays = open_arrays(tmp_path / "out" / "a" / grid)
        assert set(arrays.lesion_voxels[:, 0]) == {1, 2}


def test_boxes_are_widened_for_labels_alone() -> None:
    box = (slice(4, 8), slice(4, 8), slice(4, 8))
    assert include_lesions(box, np.zeros((10, 10, 10), np.uint8)) == box
    assert include_lesions(box, fill((10, 10, 10), (5, 5, 5, 6, 6, 6))) == box
    widened = include_lesions(box, fill((10, 10, 10), (2, 5, 5, 3, 6, 9)))
    assert widened == (slice(2, 8), slice(4, 8), slice(4, 9))


def test_an_excluded_study_passes_through(tmp_path: Path) -> None:
    converted = write_excluded(tmp_path, "a", "no weight", "PT/1.dcm")
    assert resample(tmp_path, converted) == read_json(converted)
    assert [path.name for path in (tmp_path / "out" / "a").iterdir()] == ["study.json"]


def test_air_is_excluded_with_a_reason(tmp_path: Path) -> None:
    converted = write_converted(tmp_path, "a", [], body=(0, 0, 0, 0, 0, 0))
    manifest = resample(tmp_path, converted)
    assert manifest["status"] == "excluded" and manifest["step"] == "resample_study"
    assert manifest["reason"] == (
        "no body found: nothing above -500.0 HU in the CT nor above SUV 0.15 in the PET"
    )
    assert {"study", "patient", "file"} < set(manifest)
    with pytest.raises(PetctError, match="no body found"):
        resample(tmp_path, converted, unusable_study="stop")


def test_a_pet_without_uptake_is_excluded_with_a_reason(tmp_path: Path) -> None:
    converted = write_converted(tmp_path, "a", [])
    save_volume(np.zeros(NATIVE.shape_zyx, np.float32), NATIVE, converted.parent / "suv.nii.gz")
    manifest = resample(tmp_path, converted)
    assert manifest["status"] == "excluded" and manifest["step"] == "resample_study"
    # The CT shows a body, but there is nothing to find in it.
    assert manifest["reason"] == "the PET is empty: nothing above SUV 0.15"
    assert {path.name for path in (tmp_path / "out" / "a").iterdir()} == {"study.json"}


def test_a_damaged_image_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    converted = write_converted(tmp_path, "a", [LESION])
    resample(tmp_path, converted)
    path = converted.parent / "ct.nii.gz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DamagedFileError, match=r"ct\.nii\.gz is cut short or garbled"):
        resample(tmp_path, converted)
    assert not (tmp_path / "out" / "a" / "study.json").exists()


def test_the_digest_follows_the_content(tmp_path: Path) -> None:
    first = resample(tmp_path, write_converted(tmp_path / "1", "a", [LESION]))
    left_over = tmp_path / "out" / "a" / "fine" / "old.npy"
    left_over.touch()
    again = resample(tmp_path, write_converted(tmp_path / "2", "a", [LESION]))
    assert again == first
    assert not left_over.exists()
    digests = {
        first["digest"],
        resample(tmp_path, write_converted(tmp_path / "3", "a", [(*LESION[:5], 15)]))["digest"],
        resample(tmp_path, write_converted(tmp_path / "4", "a", [LESION], [ORGAN]))["digest"],
        resample(tmp_path, tmp_path / "1" / "a" / "study.json", suv_transform="linear")["digest"],
        # The same images, and other places that training looks at.
        resample(tmp_path, tmp_path / "4" / "a" / "study.json", uptake_above_suv=7.0)["digest"],
    }
    assert len(digests) == 5


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    converted = write_converted(tmp_path, "a", [LESION])
    output = tmp_path / "out" / "study.json"
    arguments = ["--study", str(converted), "--settings", json.dumps(PREPROCESSING)]
    monkeypatch.setattr(sys, "argv", ["resample_study", *arguments, "--output", str(output)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    assert read_json(output)["status"] == "resampled"
