"""Images between steps are whole or refused, which ITK alone would not see to."""

from __future__ import annotations

import errno
import resource
import signal
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from petct.errors import DamagedFileError
from petct.grids import Grid
from petct.image_files import load_image, load_volume, save_volume
from volumes import read_only, small_disk

GRID = Grid((20, 30, 40), (4.0, 4.0, 5.0), (-31.0, 17.0, 203.0), (0, -1, 0, 1, 0, 0, 0, 0, 1))


def make_image(kind: type, seed: int = 0) -> sitk.Image:
    noise = 100 * np.random.default_rng(seed).random(GRID.shape_zyx)
    return GRID.to_image(noise.astype(kind))


def save_noise(kind: type, path: Path) -> None:
    save_volume(sitk.GetArrayViewFromImage(make_image(kind)), GRID, path)


# As scanners have it, turned by a right angle, mirrored, and oblique.
GRIDS = [
    Grid((20, 30, 40), (2.03642, 2.03642, 3.0), (-403.451, -580.458, -905.713)),
    GRID,
    Grid((20, 30, 40), (4.0, 3.0, 5.0), (9.5, 17.0, 203.0), (1, 0, 0, 0, 1, 0, 0, 0, -1)),
    Grid((20, 30, 40), (4.0, 3.0, 5.0), (9.5, 17, -3), (0.6, 0, 0.8, 0, 1, 0, -0.8, 0, 0.6)),
    Grid(
        (20, 30, 40), (4, 3, 5), (9.5, 17, -3), (0.6, -0.64, 0.48, 0, 0.6, 0.8, -0.8, -0.48, 0.36)
    ),
]


@pytest.mark.parametrize("kind", [np.float32, np.int16, np.uint8])
@pytest.mark.parametrize("grid", GRIDS)
def test_what_was_written_is_read_by_all(tmp_path: Path, kind: type, grid: Grid) -> None:
    values: np.ndarray = (100 * np.random.default_rng(0).random(grid.shape_zyx)).astype(kind)
    path, by_itk = tmp_path / "a.nii.gz", tmp_path / "itk.nii.gz"
    save_volume(values, grid, path)
    sitk.WriteImage(grid.to_image(values), by_itk)
    again, expected = sitk.ReadImage(path), sitk.ReadImage(by_itk)
    assert np.array_equal(sitk.GetArrayViewFromImage(again), values)
    assert np.array_equal(sitk.GetArrayViewFromImage(load_image(path)), values)
    # Headers are single precision, which the two may round differently where axes are oblique.
    for get in ("GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(again, get)() == pytest.approx(getattr(expected, get)(), rel=1e-6, abs=1e-6)
    ours, theirs = (nibabel.Nifti1Image.from_filename(file) for file in (path, by_itk))
    assert np.array_equal(np.asanyarray(ours.dataobj), values.transpose())
    for field in theirs.header:
        if theirs.header[field].dtype.kind == "f":
            np.testing.assert_allclose(ours.header[field], theirs.header[field], 1e-6, 1e-6)
        else:
            assert ours.header[field].tobytes() == theirs.header[field].tobytes(), field
    for written in (path, by_itk):
        found, place = load_volume(written)
        assert found.dtype == kind and np.array_equal(found, values)
        assert place == Grid.from_image(sitk.ReadImage(written))


def test_an_image_of_several_blocks_is_written_alike_each_time(tmp_path: Path) -> None:
    grid = Grid((50, 200, 200), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    values = np.random.default_rng(0).random(grid.shape_zyx, dtype=np.float32)  # 8 MB: two blocks
    save_volume(values, grid, tmp_path / "one.nii.gz")
    save_volume(values, grid, tmp_path / "two.nii.gz")
    assert (tmp_path / "one.nii.gz").read_bytes() == (tmp_path / "two.nii.gz").read_bytes()
    assert np.array_equal(load_volume(tmp_path / "two.nii.gz")[0], values)


def test_an_array_of_another_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not fit the grid"):
        save_volume(np.zeros((2, 3, 4), np.uint8), GRID, tmp_path / "a.nii.gz")


def test_a_damaged_image_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    save_noise(np.float32, path)
    content = path.read_bytes()
    half = len(content) // 2
    for damage in (
        *(content[:length] for length in (1, 19, 300, 5000, half, len(content) - 9)),
        *(content[: len(content) - 4], content[:-1], content + b"\0"),
        *(content[:half] + b"\0" * 8 + content[half + 8 :], b"\0" * len(content)),
    ):
        path.write_bytes(damage)
        with pytest.raises(DamagedFileError, match=r"a\.nii\.gz is cut short or garbled"):
            load_image(path)
    path.write_bytes(b"")
    with pytest.raises(DamagedFileError, match="is empty"):
        load_image(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        load_image(path)


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 64) as disk:
        path = disk / "a.nii.gz"
        # ITK itself says nothing: without a look at what arrived half an image would stand.
        sitk.WriteImage(make_image(np.float32), path)
        with pytest.raises(OSError) as caught:
            save_noise(np.float32, path)
        assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
        path.unlink()
        # 16 KB are left, which is less than the image and more than nothing.
        (disk / "other").write_bytes(bytes(48 * 1024))
        with pytest.raises(OSError) as caught:
            save_noise(np.uint8, path)
        assert caught.value.errno == errno.ENOSPC
        path.unlink()
        with read_only(disk), pytest.raises(OSError) as caught:
            save_noise(np.uint8, path)
        assert (caught.value.errno, caught.value.filename) == (errno.EROFS, str(path))


def test_a_limit_of_the_size_of_files_is_told(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(OSError) as caught:
            save_noise(np.float32, tmp_path / "a.nii.gz")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.errno == errno.EFBIG


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        save_noise(np.uint8, tmp_path / "none" / "a.nii.gz")
