"""A SEG that is read back by others has the mask's voxels in the mask's places."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from dicom_studies import AXIAL, PET_SHAPE, write_pet
from petct.dicom_series import order_slices, read_headers
from petct.errors import PetctError
from petct.grids import Grid
from petct.phantom_dicom import empty_folder
from petct.phantom_dicom import write_pet as write_phantom_pet
from petct.seg_files import write_seg
from test_phantom_dicom import small

PACKAGE: dict[str, Any] = {
    "format": 1,
    "experiment": {"strategy": "one_step", "model": "unet", "cohort": "all"},
    "files": {"final/fold-0/last.safetensors": "abc"},
}
# Rows: the x, y and slice axes.
TURNED = np.deg2rad(20.0)
OBLIQUE = np.array(
    [
        [np.cos(TURNED), 0.0, np.sin(TURNED)],
        [0.0, 1.0, 0.0],
        [-np.sin(TURNED), 0.0, np.cos(TURNED)],
    ]
)
AXES = {"axial": AXIAL, "flipped": np.diag([-1.0, -1.0, 1.0]), "oblique": OBLIQUE}


def some_lesions() -> np.ndarray:
    """Three lesions, of which two share a slice, and slices without any."""
    numbers = np.zeros(PET_SHAPE, np.uint16)
    numbers[1:3, 2:4, 1:5] = 1
    numbers[2, 6, 7:9] = 2
    numbers[4, 0, 0] = 3
    return numbers


def grid_of(files: list[Path]) -> Grid:
    return order_slices(read_headers(files), single_slices=False).grid


def read_with_pydicom(path: Path, grid: Grid) -> np.ndarray:
    """Segment numbers (Z, Y, X) on ``grid`` from the frames' own positions, by pydicom alone."""
    seg = pydicom.dcmread(path)
    frames = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    numbers = np.zeros(grid.shape_zyx, np.uint16)
    (shared,) = seg.SharedFunctionalGroupsSequence
    (orientation,) = shared.PlaneOrientationSequence
    cosines = np.array(orientation.ImageOrientationPatient, float)
    assert cosines == pytest.approx(np.array(grid.direction).reshape(3, 3).T[:2].ravel(), abs=1e-5)
    for frame, group in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        place = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        steps = np.array(grid.direction).reshape(3, 3).T @ (place - grid.origin_xyz_mm)
        x, y, z = steps / grid.spacing_xyz_mm
        assert (x, y) == pytest.approx((0, 0), abs=1e-4) and z == pytest.approx(round(z), abs=1e-4)
        # What all frames share is said once.
        told = group if "SegmentIdentificationSequence" in group else shared
        number = told.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        numbers[round(z)][frame > 0] = number
    return numbers


@pytest.mark.parametrize("each", [True, False])
@pytest.mark.parametrize("turned", list(AXES))
def test_voxels_come_back(tmp_path: Path, turned: str, each: bool) -> None:
    files = write_pet(tmp_path / "pet", "1.2.3", axes=AXES[turned])
    grid, numbers = grid_of(files), some_lesions()
    write_seg(numbers, grid, files, each, PACKAGE, tmp_path / "lesions.dcm")
    found = read_with_pydicom(tmp_path / "lesions.dcm", grid)
    assert np.array_equal(found, numbers if each else numbers > 0)
    seg = pydicom.dcmread(tmp_path / "lesions.dcm")
    assert [s.SegmentLabel for s in seg.SegmentSequence] == (
        ["Lesion 1", "Lesion 2", "Lesion 3"] if each else ["Lesions"]
    )
    assert {s.SegmentAlgorithmType for s in seg.SegmentSequence} == {"AUTOMATIC"}
    pet = pydicom.dcmread(files[0])
    (series,) = seg.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == pet.SeriesInstanceUID
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID"):
        assert seg[keyword].value == pet[keyword].value


def test_no_lesion_is_a_valid_empty_segment(tmp_path: Path) -> None:
    files = write_pet(tmp_path / "pet", "1.2.3")
    grid, numbers = grid_of(files), np.zeros(PET_SHAPE, np.uint16)
    write_seg(numbers, grid, files, True, PACKAGE, tmp_path / "lesions.dcm")
    assert not read_with_pydicom(tmp_path / "lesions.dcm", grid).any()
    seg = pydicom.dcmread(tmp_path / "lesions.dcm")
    assert len(seg.SegmentSequence) == 1 and seg.SeriesDescription.startswith("No lesions")


def test_the_same_result_is_the_same_object(tmp_path: Path) -> None:
    files = write_pet(tmp_path / "pet", "1.2.3")
    grid = grid_of(files)

    def instance(numbers: np.ndarray) -> str:
        write_seg(numbers, grid, files, True, PACKAGE, tmp_path / "lesions.dcm")
        return str(pydicom.dcmread(tmp_path / "lesions.dcm").SOPInstanceUID)

    first = instance(some_lesions())
    assert instance(some_lesions()) == first
    assert instance(some_lesions()[:, ::-1]) != first


def test_a_study_s_text_that_is_too_long_is_cut(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = write_pet(tmp_path / "pet", "1.2.3")
    for file in files:
        pet = pydicom.dcmread(file)
        pet.StudyID = "a study of 20 letters"
        pet.save_as(file)
    grid = grid_of(files)
    write_seg(some_lesions(), grid, files, True, PACKAGE, tmp_path / "lesions.dcm")
    assert pydicom.dcmread(tmp_path / "lesions.dcm").StudyID == "a study of 20 le"
    assert "StudyID" in capsys.readouterr().out


def test_another_grid_is_refused(tmp_path: Path) -> None:
    files = write_pet(tmp_path / "pet", "1.2.3")
    with pytest.raises(PetctError, match="not that of the PET series"):
        write_seg(
            some_lesions()[1:], grid_of(files), files, True, PACKAGE, tmp_path / "lesions.dcm"
        )


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy (dicom3tools)")
@pytest.mark.parametrize("source", ["siemens", "ge", "philips", "admin"])
@pytest.mark.parametrize("count", [0, 2])
def test_dciodvfy_finds_no_error(tmp_path: Path, source: str, count: int) -> None:
    truth = small("phantom-001", source)
    files = write_phantom_pet(
        truth, np.ones(truth.pet_grid.shape_zyx, np.float32), empty_folder(tmp_path / "PT")
    )
    grid = grid_of(files)
    numbers = np.zeros(grid.shape_zyx, np.uint16)
    for number in range(1, count + 1):
        numbers[number, 1, 1] = number
    write_seg(numbers, grid, files, True, PACKAGE, tmp_path / "lesions.dcm")
    command = ["dciodvfy", str(tmp_path / "lesions.dcm")]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Error" not in told.stderr + told.stdout
