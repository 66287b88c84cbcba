"""Images between steps are whole or refused, which ITK alone would not see to."""

from __future__ import annotations

import errno
import resource
import signal
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from petct.errors import DamagedFileError
from petct.grids import Grid
from petct.image_files import load_image, save_image
from volumes import read_only, small_disk

GRID = Grid((20, 30, 40), (4.0, 4.0, 5.0), (-31.0, 17.0, 203.0), (0, -1, 0, 1, 0, 0, 0, 0, 1))


def make_image(kind: type, seed: int = 0) -> sitk.Image:
    noise = 100 * np.random.default_rng(seed).random(GRID.shape_zyx)
    return GRID.to_image(noise.astype(kind))


@pytest.mark.parametrize("kind", [np.float32, np.int16, np.uint8])
@pytest.mark.parametrize("level", [-1, 1])
def test_what_was_written_is_read(tmp_path: Path, kind: type, level: int) -> None:
    image = make_image(kind)
    save_image(image, tmp_path / "a.nii.gz", level)
    again = load_image(tmp_path / "a.nii.gz")
    assert np.array_equal(sitk.GetArrayViewFromImage(again), sitk.GetArrayViewFromImage(image))
    assert Grid.from_image(again).shape_zyx == GRID.shape_zyx


def test_a_damaged_image_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    save_image(make_image(np.float32), path)
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
            save_image(make_image(np.float32), path)
        assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
        path.unlink()
        # 16 KB are left, which is less than the image and more than nothing.
        (disk / "other").write_bytes(bytes(48 * 1024))
        with pytest.raises(OSError) as caught:
            save_image(make_image(np.uint8), path)
        assert caught.value.errno == errno.ENOSPC
        path.unlink()
        with read_only(disk), pytest.raises(OSError) as caught:
            save_image(make_image(np.uint8), path)
        assert (caught.value.errno, caught.value.filename) == (errno.EROFS, str(path))


def test_a_limit_of_the_size_of_files_is_told(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(OSError) as caught:
            save_image(make_image(np.float32), tmp_path / "a.nii.gz")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.errno == errno.EFBIG


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        save_image(make_image(np.uint8), tmp_path / "none" / "a.nii.gz")
