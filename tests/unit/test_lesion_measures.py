"""Lesions whose volume, uptake and distances follow from a formula or a few counted voxels."""

from __future__ import annotations

import math

import numpy as np
import pytest

from petct.grids import Grid
from petct.lesion_measures import find_peak, largest_distance_mm, measure_lesions, number_lesions
from petct.phantom import describe_study, paint_lesions, paint_suv


def grid_of(shape: tuple[int, int, int], spacing_mm: float) -> Grid:
    return Grid(shape, (spacing_mm,) * 3, (-10.0, 20.0, 30.0))


def test_a_sphere_of_constant_uptake() -> None:
    """Radius 20 mm, SUV 5, in 2 mm voxels: 33.51 mL, TLG 167.6, centred where it was put."""
    shape = (41, 41, 41)
    grid = grid_of(shape, 2.0)
    z, y, x = np.indices(shape)
    mask = (x - 20) ** 2 + (y - 20) ** 2 + (z - 20) ** 2 <= 10**2
    suv = np.where(mask, np.float32(5), np.float32(0.5))
    (lesion,) = measure_lesions(number_lesions(mask, 18), suv, grid)
    volume_ml = 4 / 3 * math.pi * 20**3 / 1000
    assert lesion.volume_ml == pytest.approx(volume_ml, rel=0.01)
    assert lesion.tlg == pytest.approx(5 * volume_ml, rel=0.01)
    assert (lesion.suv_max, lesion.suv_mean) == (5.0, 5.0)
    # A sphere of 6.2 mm fits into it.
    assert lesion.suv_peak == pytest.approx(5.0)
    assert lesion.centroid_xyz_mm == pytest.approx((30.0, 60.0, 70.0))
    assert lesion.bounding_zyx == (10, 10, 10, 31, 31, 31)


@pytest.mark.parametrize(
    ("spacing_mm", "place", "voxels"),
    [
        (10.0, (4, 4, 4), 1),  # no neighbour's centre within 6.2 mm
        (6.0, (4, 4, 4), 7),  # those by faces
        (6.0, (0, 0, 0), 4),  # and at the array's corner, what there is of them
        (4.4, (4, 4, 4), 7),  # by edges it is 6.22 mm, and the radius 6.20
        (4.38, (4, 4, 4), 7 + 12),  # 6.19 mm
    ],
)
def test_peak_is_the_mean_of_a_sphere_of_one_millilitre(
    spacing_mm: float, place: tuple[int, int, int], voxels: int
) -> None:
    suv = np.zeros((9, 9, 9), np.float32)
    suv[place] = 10.0
    found = find_peak(np.array([place]), suv, (spacing_mm,) * 3)
    assert found == pytest.approx(10.0 / voxels)


def test_the_phantom_s_lesions_have_their_closed_form() -> None:
    """Before blur and noise: ellipsoids of known volume and SUV, in voxels of 5 mm."""
    truth = describe_study("phantom-001", 20, "demo")
    grid, painted = truth.pet_grid, paint_lesions(truth, truth.pet_grid)
    suv = paint_suv(truth, grid)
    measures = measure_lesions(number_lesions(painted > 0, 18), suv, grid)
    assert len(measures) == len(truth.lesions) > 3
    # The lattice takes or leaves a few voxels of each surface.
    volume_ml = sum(lesion.volume_ml for lesion in truth.lesions)
    assert sum(m.volume_ml for m in measures) == pytest.approx(volume_ml, rel=0.03)
    tlg = sum(lesion.suv * lesion.volume_ml for lesion in truth.lesions)
    assert sum(m.tlg for m in measures) == pytest.approx(tlg, rel=0.03)
    for lesion in truth.lesions:
        centre = np.array(lesion.solid.centre)
        found = min(measures, key=lambda m: float(np.linalg.norm(m.centroid_xyz_mm - centre)))
        # Half a voxel's diagonal.
        assert np.linalg.norm(found.centroid_xyz_mm - centre) < 4.4
        assert found.suv_max == pytest.approx(lesion.suv, rel=1e-6)
        assert found.volume_ml == pytest.approx(lesion.volume_ml, rel=0.2)
        # The sphere of 1 mL, and the voxel in which its centre lies, fit into the lesion or not.
        if min(lesion.solid.semi_axes) > 6.2 + 4.4:
            assert found.suv_peak == pytest.approx(lesion.suv, rel=1e-6)
        else:
            assert found.suv_peak <= lesion.suv * (1 + 1e-6)


def test_peak_is_sought_over_the_whole_lesion() -> None:
    """Two voxels: around the cooler one lies more uptake."""
    suv = np.zeros((9, 9, 9), np.float32)
    suv[4, 4, 1], suv[4, 4, 6] = 10.0, 8.0
    suv[4, 3:6, 6] = 8.0
    hottest, other = np.array([[4, 4, 1]]), np.array([[4, 4, 6]])
    both = np.vstack([hottest, other])
    assert find_peak(hottest, suv, (6.0,) * 3) == pytest.approx(10 / 7)
    assert find_peak(both, suv, (6.0,) * 3) == pytest.approx(24 / 7)


def test_the_largest_comes_first_and_distances_are_of_centroids() -> None:
    mask = np.zeros((8, 8, 20), bool)
    mask[2, 2, 2] = True
    mask[2, 2, 8:11] = True  # centroid at x = 9
    mask[2, 2, 18] = True
    numbers = number_lesions(mask, 6)
    assert (numbers[2, 2, 2], numbers[2, 2, 9], numbers[2, 2, 18]) == (2, 1, 3)
    suv = np.ones(mask.shape, np.float32)
    lesions = measure_lesions(numbers, suv, grid_of((8, 8, 20), 5.0))
    assert [lesion.voxels for lesion in lesions] == [3, 1, 1]
    assert largest_distance_mm(lesions) == pytest.approx(16 * 5.0)
    assert math.isnan(largest_distance_mm(lesions[:1]))


def test_neighbours_by_corners_are_one_lesion_only_if_asked() -> None:
    mask = np.zeros((4, 4, 4), bool)
    mask[1, 1, 1] = mask[2, 2, 2] = True
    assert [number_lesions(mask, c).max() for c in (6, 18, 26)] == [2, 2, 1]


def test_an_empty_mask_has_no_lesion() -> None:
    mask = np.zeros((4, 5, 6), bool)
    numbers = number_lesions(mask, 18)
    assert numbers.shape == mask.shape and not numbers.any()
    assert measure_lesions(numbers, mask.astype(np.float32), grid_of((4, 5, 6), 2.0)) == []
