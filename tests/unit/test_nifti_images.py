"""PET and CT told apart by their values, and the values themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from petct.errors import StudyError
from petct.grids import Grid
from petct.labels import read_nifti
from petct.nifti_images import read_pet_and_ct

SUV_GRID = Grid((2, 3, 4), (4.0, 4.0, 3.0), (1.0, 2.0, 3.0))
CT_GRID = Grid((3, 2, 2), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0))
SUV = np.linspace(0, 11.5, 24).reshape(SUV_GRID.shape_zyx)
HU = np.array([-3024, -1000.4, -200.6, -100, 0, 40.5, 60, 100, 300.7, 1000, 3000, 50000.0])
HU = HU.reshape(CT_GRID.shape_zyx)
EXPECTED = [-1024, -1000, -201, -100, 0, 40, 60, 100, 301, 1000, 3000, 32767]


def write(path: Path, values: np.ndarray, grid: Grid) -> Path:
    sitk.WriteImage(grid.to_image(values), str(path))
    return path


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Of the SUV and of the CT."""
    suv = write(tmp_path / "suv.nii.gz", SUV, SUV_GRID)
    return suv, write(tmp_path / "ct.nii.gz", HU, CT_GRID)


@pytest.mark.parametrize("layout", ["autopet", "nnunet"])
def test_values_and_grids(files: tuple[Path, Path], layout: str) -> None:
    found = read_pet_and_ct(*files, layout)
    assert found.hounsfield is not None
    assert (found.suv.dtype, found.hounsfield.dtype) == (np.float32, np.int16)
    np.testing.assert_allclose(found.suv, SUV, rtol=1e-6)
    assert found.hounsfield.ravel().tolist() == EXPECTED
    assert (found.grid, found.ct_grid) == (SUV_GRID, CT_GRID)
    assert found.warnings == ()


def test_reversed_channels_are_swapped_and_it_is_said(files: tuple[Path, Path]) -> None:
    suv, ct = files
    found = read_pet_and_ct(ct, suv, "nnunet")
    assert found.hounsfield is not None
    np.testing.assert_allclose(found.suv, SUV, rtol=1e-6)
    assert found.hounsfield.ravel().tolist() == EXPECTED
    assert (found.grid, found.ct_grid) == (SUV_GRID, CT_GRID)
    assert found.warnings == (
        "the channels of PET and CT are reversed and were swapped: what should be SUV has values "
        "from -3024 to 50000",
    )


def test_reversed_images_of_the_release_are_refused(files: tuple[Path, Path]) -> None:
    suv, ct = files
    with pytest.raises(StudyError, match="PET and CT are reversed: the PET has values from -3024"):
        read_pet_and_ct(ct, suv, "autopet")


@pytest.mark.parametrize("layout", ["autopet", "nnunet"])
def test_images_alike_are_refused(files: tuple[Path, Path], layout: str) -> None:
    suv, ct = files
    for file, kind in ((suv, "SUV"), (ct, "CT")):
        with pytest.raises(StudyError) as caught:
            read_pet_and_ct(file, file, layout)
        assert str(caught.value).startswith(f"both images look like {kind}: the PET has values")
        assert caught.value.source == str(file)


def test_undershoot_of_interpolation_is_still_suv(tmp_path: Path) -> None:
    values = SUV.copy()
    values[0, 0, 0] = -3.5
    suv = write(tmp_path / "suv.nii.gz", values, SUV_GRID)
    ct = write(tmp_path / "ct.nii.gz", HU, CT_GRID)
    assert read_pet_and_ct(suv, ct, "nnunet").suv.min() == -3.5


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("which", [0, 1])
def test_values_that_are_not_finite_are_refused(
    tmp_path: Path, files: tuple[Path, Path], value: float, which: int
) -> None:
    values, grid = ((SUV, SUV_GRID), (HU, CT_GRID))[which]
    values = values.copy()
    values[1, 1, 1] = value
    broken = write(files[which], values, grid)
    assert np.isfinite(sitk.GetArrayFromImage(sitk.ReadImage(str(broken)))).all()  # hence the guard
    with pytest.raises(StudyError, match="not finite") as caught:
        read_pet_and_ct(*files, "nnunet")
    assert caught.value.source == str(broken)


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.float32, np.float64])
def test_ct_of_any_type(tmp_path: Path, files: tuple[Path, Path], kind: type) -> None:
    values = np.array([-2000, -1024, -1000, 0, 7, 30000] * 2).reshape(CT_GRID.shape_zyx)
    ct = write(files[1], values.astype(kind), CT_GRID)
    found = read_pet_and_ct(files[0], ct, "autopet").hounsfield
    assert found is not None
    assert found.ravel().tolist() == [-1024, -1024, -1000, 0, 7, 30000] * 2


def test_no_ct(files: tuple[Path, Path]) -> None:
    suv, ct = files
    found = read_pet_and_ct(suv, None, "nnunet")
    np.testing.assert_allclose(found.suv, SUV, rtol=1e-6)
    assert (found.hounsfield, found.ct_grid, found.warnings) == (None, None, ())
    with pytest.raises(StudyError, match="the PET has values from -3024 to 50000, expected SUV"):
        read_pet_and_ct(ct, None, "nnunet")


def test_what_is_no_image_is_refused(tmp_path: Path, files: tuple[Path, Path]) -> None:
    files[1].write_bytes(files[1].read_bytes()[:40])
    with pytest.raises(StudyError) as caught:
        read_pet_and_ct(*files, "autopet")
    assert caught.value.source == str(files[1])


@pytest.mark.parametrize("name", ["SUV.nii.gz", "SUV.nii"])
@pytest.mark.parametrize("kind", [np.float32, np.int16])
def test_a_file_that_ends_early_is_refused(tmp_path: Path, name: str, kind: type) -> None:
    grid = Grid((12, 10, 8), (4.0, 4.0, 3.0), (1.0, 2.0, 3.0))
    values: np.ndarray = np.random.default_rng(0).integers(0, 50, grid.shape_zyx).astype(kind)
    path = write(tmp_path / name, values, grid)
    read_nifti(path)
    content = path.read_bytes()
    for damage in (content[: len(content) // 2], content[:-20]):
        path.write_bytes(damage)
        with pytest.raises(StudyError, match="the file is cut short") as caught:
            read_nifti(path)
        assert caught.value.source == str(path)
