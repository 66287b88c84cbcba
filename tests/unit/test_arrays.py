"""The training format: what goes in comes out, and no lesion is lost."""

from pathlib import Path

import numpy as np
import pytest

from petct.arrays import (
    list_part_voxels,
    normalise_ct,
    open_arrays,
    resample_mask,
    save_arrays,
    transform_suv,
)
from petct.errors import DamagedFileError
from petct.grids import Grid

GRID = Grid((40, 40, 40), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))


def test_ct_is_clamped_and_scaled() -> None:
    ct_hu = np.array([-3000.0, -512.0, 0.0, 2048.0])
    np.testing.assert_allclose(normalise_ct(ct_hu, 1024.0), [-1.0, -0.5, 0.0, 1.0])


def test_suv_transforms() -> None:
    suv = np.array([0.0, np.e - 1.0, -2.0])
    np.testing.assert_allclose(transform_suv(suv, "log"), [0.0, 1.0, 0.0])
    np.testing.assert_allclose(transform_suv(np.array([5.0]), "linear"), [0.5])
    zscore = transform_suv(np.array([1.0, 3.0]), "zscore")
    np.testing.assert_allclose(zscore, [-1.0, 1.0])
    with pytest.raises(ValueError, match="unknown SUV transform"):
        transform_suv(suv, "sqrt")


def test_a_lesion_of_one_voxel_survives_on_a_coarse_grid() -> None:
    fine = Grid((16, 16, 16), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    mask = np.zeros((16, 16, 16), np.uint8)
    mask[3, 9, 12] = 1
    coarse = resample_mask(mask, fine, fine.respace((8.0, 8.0, 8.0)))
    assert coarse.sum() == 1
    assert tuple(np.argwhere(coarse)[0]) == (0, 2, 3)


def test_a_block_keeps_its_volume() -> None:
    fine = Grid((32, 32, 32), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    mask = np.zeros((32, 32, 32), np.uint8)
    mask[8:24, 8:24, 8:24] = 1
    assert resample_mask(mask, fine, fine.respace((4.0, 4.0, 4.0))).sum() == 8**3


def test_lesions_are_numbered_with_18_connectivity_and_thinned() -> None:
    label = np.zeros((40, 40, 40), np.uint8)
    label[0, 0, 0] = label[1, 1, 1] = 1  # corners only: two lesions
    label[10:30, 10:30, 10:30] = 1
    voxels = list_part_voxels(label, at_least_ml=0.0, grid=GRID)
    numbers, counts = np.unique(voxels[:, 0], return_counts=True)
    assert list(numbers) == [1, 2, 3]
    assert list(counts) == [1, 1, 2000]
    assert label[tuple(voxels[:, 1:].T)].all()
    # 1 mL is a thousand voxels of 1 mm.
    assert set(list_part_voxels(label, at_least_ml=1.0, grid=GRID)[:, 0]) == {3}


def test_written_arrays_are_read_back_unread(tmp_path: Path) -> None:
    grid = Grid((3, 4, 5), (1.0, 2.0, 3.0), (0.0, 0.0, 0.0))
    image = np.random.default_rng(0).random((2, 3, 4, 5)).astype(np.float16)
    label = np.zeros((3, 4, 5), np.uint8)
    save_arrays(tmp_path, image, label, label, grid)
    arrays = open_arrays(tmp_path)
    assert isinstance(arrays.image, np.memmap)
    np.testing.assert_array_equal(arrays.image, image)
    assert arrays.lesion_voxels.shape == (0, 4)
    assert arrays.grid == grid


@pytest.mark.parametrize("name", ["image", "label", "lesions", "uptake"])
def test_a_damaged_array_is_refused(tmp_path: Path, name: str) -> None:
    mask = np.zeros(GRID.shape_zyx, np.uint8)
    mask[4:20, 5:30, 6:30] = 1
    save_arrays(tmp_path, np.zeros((2, *GRID.shape_zyx)), mask, mask, GRID)
    path = tmp_path / f"{name}.npy"
    content = path.read_bytes()
    for damage in (b"", content[:5], content[:50], content[:-1], bytes(len(content))):
        path.write_bytes(damage)
        with pytest.raises(DamagedFileError, match=rf"{name}\.npy is (empty|cut short or garbled)"):
            open_arrays(tmp_path)
