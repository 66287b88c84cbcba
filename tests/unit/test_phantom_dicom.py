"""The phantom's DICOM: SUV worked out again from the tags alone, in every dialect."""

import datetime as dt
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from petct.grids import Grid
from petct.phantom import StudyTruth, describe_study, paint_labels, paint_lesions
from petct.phantom_dicom import (
    DIALECTS,
    bqml_per_suv,
    decay_factor,
    empty_folder,
    write_ct,
    write_pet,
)
from petct.phantom_labels import write_rtstruct, write_seg


def small(study: str, source: str) -> StudyTruth:
    """The study with a PET and a CT of a few slices through liver and kidneys."""
    truth = describe_study(study, 20, "demo")
    x, y, z = truth.offset_xyz_mm
    grid = Grid((12, 60, 100), (4.07283, 4.07283, 4.0), (x - 200.0, y - 120.0, z + 205.0))
    ct = Grid((6, 50, 80), (5.0, 5.0, 3.0), (x - 190.0, y - 118.0, z + 206.0))
    return replace(truth, source=source, pet_grid=grid, ct_grid=ct)


def read(folder: Path) -> list[pydicom.Dataset]:
    slices = [pydicom.dcmread(path) for path in folder.iterdir()]
    return sorted(slices, key=lambda item: float(item.ImagePositionPatient[2]))


def suv_from_tags(slices: list[pydicom.Dataset]) -> np.ndarray:
    """SUVbw by the definition, from nothing but attributes of the PET series."""
    first = slices[0]
    values = np.stack([s.pixel_array * float(s.RescaleSlope) for s in slices])
    if first.Units == "GML":
        assert first.SUVType == "BW"
        return values
    drug = first.RadiopharmaceuticalInformationSequence[0]
    dose = float(drug.RadionuclideTotalDose)
    if first.DecayCorrection == "START":
        clock = "%Y%m%d%H%M%S.%f"
        start = dt.datetime.strptime(first.SeriesDate + first.SeriesTime, clock)
        injected = dt.datetime.strptime(first.SeriesDate + drug.RadiopharmaceuticalStartTime, clock)
        waited = (start - injected).total_seconds()
        assert 3300 <= waited <= 4500
        dose *= 2 ** (-waited / float(drug.RadionuclideHalfLife))
    return values * float(first.PatientWeight) * 1000 / dose


@pytest.mark.parametrize("source", list(DIALECTS))
def test_suv_of_every_organ_comes_back_from_the_tags(tmp_path: Path, source: str) -> None:
    truth = small("phantom-001", source)
    labels, tissues = paint_labels(truth, truth.pet_grid)
    suv = np.array([tissue.suv for tissue in tissues], np.float32)[labels]
    write_pet(truth, suv, empty_folder(tmp_path / "PT"))
    found = suv_from_tags(read(tmp_path / "PT"))
    for number in np.unique(labels):
        mean = found[labels == number].mean()
        assert mean == pytest.approx(tissues[number].suv, rel=0.01, abs=1e-3), tissues[number].name


@pytest.mark.parametrize("source", list(DIALECTS))
def test_pet_series_is_whole_and_unordered(tmp_path: Path, source: str) -> None:
    truth = small("phantom-001", source)
    suv = np.random.default_rng(0).random(truth.pet_grid.shape_zyx, dtype=np.float32)
    files = write_pet(truth, suv, empty_folder(tmp_path / "PT"))
    slices = read(tmp_path / "PT")
    assert [path.name for path in files] != sorted(path.name for path in files)
    assert len({s.SOPInstanceUID for s in slices}) == len({s.ImageIndex for s in slices}) == 12
    assert len({s.SeriesInstanceUID for s in slices}) == 1
    assert {s.NumberOfSlices for s in slices} == {12}
    grid = truth.pet_grid
    for k, one in enumerate(slices):
        x, y, z = grid.origin_xyz_mm
        assert [float(v) for v in one.ImagePositionPatient] == pytest.approx([x, y, z + 4 * k])
        assert (one.Rows, one.Columns) == (60, 100)
    slopes = {str(s.RescaleSlope) for s in slices}
    assert (len(slopes) > 1) == DIALECTS[source].slope_per_slice
    assert suv_from_tags(slices) == pytest.approx(suv, rel=1e-3, abs=1e-4)
    dialect = DIALECTS[source]
    assert slices[0].Units == dialect.units
    assert slices[0].DecayCorrection == dialect.decay_correction
    if dialect.ge_private:
        block = slices[0].private_block(0x0009, "GEMS_PETD_01")
        assert block[0x0D].value.startswith(slices[0].SeriesDate + slices[0].SeriesTime[:6])


def test_decay() -> None:
    truth = replace(
        describe_study("phantom-001", 20, "demo"), weight_kg=80.0, dose_bq=320e6, uptake_s=6586.2
    )
    assert bqml_per_suv(truth, "ADMIN") == pytest.approx(4000.0)
    assert bqml_per_suv(truth, "START") == pytest.approx(2000.0)  # one half-life later
    # Two minutes are 1.8 % of a half-life: ln 2 x 120 / 6586.2 / 2 = 0.63 % lost on average.
    assert decay_factor(0.0) == pytest.approx(1.00633, abs=2e-5)
    assert decay_factor(6586.2) == pytest.approx(2 * decay_factor(0.0))


def test_ct_comes_back(tmp_path: Path) -> None:
    truth = small("phantom-001", "ge")
    hu = np.random.default_rng(0).integers(-1024, 3000, truth.ct_grid.shape_zyx, dtype=np.int16)
    write_ct(truth, hu, empty_folder(tmp_path / "CT"))
    slices = read(tmp_path / "CT")
    found = [s.pixel_array * s.RescaleSlope + s.RescaleIntercept for s in slices]
    assert (np.stack(found) == hu).all()
    assert len({s.FrameOfReferenceUID for s in slices}) == 1


def test_empty_folder_drops_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "PT").mkdir()
    (tmp_path / "PT" / "old.dcm").touch()
    assert list(empty_folder(tmp_path / "PT").iterdir()) == []


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy (dicom3tools)")
@pytest.mark.parametrize("source", list(DIALECTS))
def test_objects_are_valid(tmp_path: Path, source: str) -> None:
    truth = small("phantom-001", source)
    labels, tissues = paint_labels(truth, truth.pet_grid)
    suv = np.array([tissue.suv for tissue in tissues], np.float32)[labels]
    pet = write_pet(truth, suv, empty_folder(tmp_path / "PT"))
    ct = write_ct(truth, np.zeros(truth.ct_grid.shape_zyx, np.int16), empty_folder(tmp_path / "CT"))
    lesions = paint_lesions(truth, truth.pet_grid)
    seg = write_seg(truth, lesions, pet, empty_folder(tmp_path / "SEG"))
    rtstruct = write_rtstruct(truth, empty_folder(tmp_path / "RTSTRUCT"))
    for path in (pet[0], ct[0], seg, rtstruct):
        told = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
        assert "Error" not in told.stderr + told.stdout
