"""The viewer's volumes lie where the study does, and nothing small goes missing in them."""

from __future__ import annotations

import base64
import gzip

import nibabel
import numpy as np
import pytest

from petct.grids import Grid
from petct.viewer import embed_volumes, pool, read_niivue


def decode(text: str) -> nibabel.Nifti1Image:
    return nibabel.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text)))


def test_voxels_are_joined_and_stay_in_place() -> None:
    """2 mm voxels, joined two by two along x and y; 4 mm along z stay."""
    grid = Grid((5, 8, 8), (2.0, 2.0, 4.0), (10.0, 20.0, 30.0))
    suv, ct = np.zeros(grid.shape_zyx, np.float32), np.full(grid.shape_zyx, -1000, np.int16)
    numbers = np.zeros(grid.shape_zyx, np.uint16)
    suv[2, 4, 6], numbers[2, 4, 6] = 8.0, 3
    box = (slice(1, 5), slice(2, 8), slice(2, 8))
    shown = {
        name: decode(text) for name, text in embed_volumes(suv, ct, numbers, grid, box).items()
    }
    assert {image.shape for image in shown.values()} == {(3, 3, 4)}
    # One of four voxels of 8 is 2 in the mean; a lesion of one voxel keeps its number.
    (at,) = np.argwhere(np.asarray(shown["lesions"].dataobj) == 3)
    assert np.asarray(shown["suv"].dataobj)[tuple(at)] == pytest.approx(2.0, abs=0.005)
    assert (np.asarray(shown["ct"].dataobj) == -1000).all()
    # RAS: between voxels 6 and 7 along x, 4 and 5 along y.
    place = shown["suv"].affine @ [*at, 1]
    assert place[:3] == pytest.approx([-(10 + 2 * 6.5), -(20 + 2 * 4.5), 30 + 4 * 2])


def test_a_block_that_ends_beyond_the_array_is_filled_with_its_last_voxel() -> None:
    row = np.array([[[1.0, 3.0, 5.0]]], np.float32)
    assert pool(row, (1, 1, 2), "mean").tolist() == [[[2.0, 5.0]]]
    assert pool(row, (1, 1, 2), "max").tolist() == [[[3.0, 5.0]]]


def test_niivue_is_there_and_whole() -> None:
    module = read_niivue()
    assert len(module) > 1_000_000 and "SLICE_TYPE" in module[-2000:]
