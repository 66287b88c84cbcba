"""Geometry: positions and resampling whose result is known by hand."""

import numpy as np
import pytest
import SimpleITK as sitk

from array_studies import NATIVE, fill
from petct.grids import (
    Grid,
    interpolate,
    interpolate_window,
    interpolation_matrices,
    restore_mask,
    restore_native,
)

TURNED = (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)


def test_index_is_located_along_the_turned_axes() -> None:
    grid = Grid((2, 2, 2), (1.0, 2.0, 3.0), (10.0, 20.0, 30.0), TURNED)
    # One step along x goes to +y of the patient, one along y to -x, one along z to +z.
    assert grid.locate_index((1, 1, 1)) == pytest.approx((8.0, 21.0, 33.0))


def test_grid_of_an_image_and_back() -> None:
    grid = Grid((4, 3, 2), (1.0, 2.0, 3.0), (5.0, 6.0, 7.0), TURNED)
    image = grid.to_image(np.zeros((4, 3, 2), np.float32))
    assert Grid.from_image(image) == grid
    assert Grid.from_json(grid.to_json()) == grid
    assert grid.voxel_ml == pytest.approx(0.006)


def test_array_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        Grid((4, 3, 2), (1, 1, 1), (0, 0, 0)).to_image(np.zeros((2, 3, 4)))


def test_respaced_grid_keeps_the_outer_corner() -> None:
    grid = Grid((8, 8, 8), (2.0, 2.0, 3.0), (1.0, 1.0, 1.5))  # the corner is 0, 0, 0
    coarse = grid.respace((6.0, 8.0, 8.0))
    assert coarse.shape_zyx == (4, 2, 2)
    assert coarse.origin_xyz_mm == pytest.approx((4.0, 4.0, 3.0))


def test_cut_then_resample_onto_itself_is_the_identity() -> None:
    grid = Grid((6, 5, 4), (2.0, 2.0, 3.0), (0.0, 0.0, 0.0), TURNED)
    array = np.random.default_rng(0).random((6, 5, 4)).astype(np.float32)
    cut = grid.cut((1, 2, 0), (4, 3, 4))
    np.testing.assert_allclose(
        interpolate(array, interpolation_matrices(grid, cut)), array[1:5, 2:5], atol=1e-6
    )


def test_halving_the_resolution_keeps_a_constant_and_a_ramp() -> None:
    grid = Grid((16, 4, 4), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    coarse = grid.respace((2.0, 2.0, 2.0))
    ramp = np.broadcast_to(np.arange(16.0)[:, None, None], (16, 4, 4))
    result = interpolate(ramp, interpolation_matrices(grid, coarse))
    # Away from the ends, the value at a place is the place itself: 0.5, 2.5, 4.5, ...
    np.testing.assert_allclose(result[1:-1, 0, 0], np.arange(2.5, 14, 2), atol=1e-5)


def test_linear_refinement_agrees_with_simpleitk() -> None:
    grid = Grid((6, 7, 8), (4.0, 4.0, 4.0), (3.0, -2.0, 1.0), TURNED)
    array = np.random.default_rng(1).random((6, 7, 8)).astype(np.float32)
    fine = grid.cut((1, 1, 1), (4, 5, 6)).respace((2.0, 1.5, 2.5))
    reference = sitk.Resample(
        grid.to_image(array), fine.to_image(np.zeros(fine.shape_zyx, np.float32))
    )
    result = interpolate(array, interpolation_matrices(grid, fine))
    np.testing.assert_allclose(result, sitk.GetArrayFromImage(reference), atol=1e-5)


def test_a_window_is_the_same_part_of_the_whole() -> None:
    grid = Grid((6, 7, 8), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    matrices = interpolation_matrices(grid, grid.respace((1.5, 2.0, 2.5)))
    array = np.random.default_rng(2).random((6, 7, 8))
    whole = interpolate(array, matrices)
    window = interpolate_window(array, matrices, (3, 2, 1), (5, 6, 7))
    np.testing.assert_allclose(window, whole[3:8, 2:8, 1:8], atol=1e-6)


def test_grids_of_other_directions_are_refused() -> None:
    grid = Grid((2, 2, 2), (1, 1, 1), (0, 0, 0))
    with pytest.raises(ValueError, match="differ in direction"):
        interpolation_matrices(grid, Grid((2, 2, 2), (1, 1, 1), (0, 0, 0), TURNED))


def test_pasting_what_was_cut_is_the_identity() -> None:
    whole = np.random.default_rng(1).random(NATIVE.shape_zyx).astype(np.float32)
    start, stop = (3, 0, 7), (20, 30, 19)
    cut = NATIVE.cut(start, (17, 30, 12))
    restored = restore_native(whole[3:20, :, 7:19], cut, NATIVE, start, stop)
    np.testing.assert_allclose(restored[3:20, :, 7:19], whole[3:20, :, 7:19], atol=1e-6)
    restored[3:20, :, 7:19] = 0
    assert restored.shape == NATIVE.shape_zyx and not restored.any()


@pytest.mark.parametrize(
    ("spacing_zyx_mm", "within_mm"),
    [
        ((8.0, 8.0, 8.0), 1e-3),  # linear from a coarser grid: exact
        ((3.0, 3.0, 3.0), 0.3),  # averages of a finer one: nearly so
        ((7.0, 4.0, 3.3), 0.3),
    ],
)
def test_a_respaced_prediction_lands_on_the_native_voxels(
    spacing_zyx_mm: tuple[float, float, float], within_mm: float
) -> None:
    """A predicted voxel that holds its own position gives each native voxel its own back."""
    start, stop = (2, 5, 1), (24, 29, 27)
    grid = NATIVE.cut(start, (22, 24, 26)).respace(spacing_zyx_mm)
    z, y, x = np.indices(grid.shape_zyx)
    for axis in range(3):
        origin, step = grid.origin_xyz_mm[axis], np.array(grid.direction).reshape(3, 3)[axis]
        place = origin + (np.stack([x, y, z], -1) * grid.spacing_xyz_mm) @ step
        restored = restore_native(place, grid, NATIVE, start, stop)
        for index in ((6, 9, 5), (13, 17, 14), (19, 24, 22)):
            expected = NATIVE.locate_index(index)[axis]
            assert restored[index] == pytest.approx(expected, abs=within_mm)
    assert restored[1, 5, 1] == restored[2, 4, 1] == restored[24, 28, 26] == 0


@pytest.mark.parametrize("spacing_mm", [3.0, 4.0, 5.0])
def test_a_native_block_comes_back_where_it_was(spacing_mm: float) -> None:
    block = fill(NATIVE.shape_zyx, (8, 10, 12, 15, 19, 20))
    start, stop = (3, 4, 5), (25, 29, 27)
    cut = NATIVE.cut(start, (22, 25, 22))
    grid = cut.respace((spacing_mm, spacing_mm, spacing_mm))
    resampled = interpolate(block[3:25, 4:29, 5:27], interpolation_matrices(cut, grid))
    restored = restore_native(resampled, grid, NATIVE, start, stop) > 0.5
    # Within the rounding at its surface: inner voxels are all there, none lies a layer away.
    assert restored[9:14, 11:18, 13:19].all()
    assert not (restored & (fill(NATIVE.shape_zyx, (7, 9, 11, 16, 20, 21)) == 0)).any()
    centre = np.argwhere(restored).mean(axis=0)
    assert centre == pytest.approx([11.0, 14.0, 15.5], abs=0.5)


@pytest.mark.parametrize("spacing_mm", [3.0, 9.0])
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.9])
def test_a_mask_comes_back_as_the_probability_above_its_threshold(
    spacing_mm: float, threshold: float
) -> None:
    start, stop = (3, 4, 5), (25, 29, 27)
    grid = NATIVE.cut(start, (22, 25, 22)).respace((spacing_mm, spacing_mm, spacing_mm))
    probability = np.zeros(grid.shape_zyx, np.float16)
    numbers = np.random.default_rng(5)
    for z, y, x in numbers.integers(0, np.array(grid.shape_zyx) - 2, (5, 3)):
        probability[z : z + 2, y : y + 2, x : x + 2] = numbers.random((2, 2, 2))
    place = (probability, grid, NATIVE, start, stop)
    mask = restore_mask(*place, threshold)
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, restore_native(*place) > threshold)
    assert not restore_mask(0 * probability, *place[1:], threshold).any()
