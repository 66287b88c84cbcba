"""Distances between surfaces that can be measured by hand, and MONAI's on random masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.surface_dice import compute_surface_dice

from petct.surfaces import (
    hausdorff_95_mm,
    list_surface_mm,
    measure_surface_distances,
    surface_dice,
)

# Slices are 3 mm apart, voxels 2 mm wide and 2.5 mm high in them.
SPACING_ZYX_MM = (3.0, 2.5, 2.0)


def empty() -> np.ndarray:
    return np.zeros((8, 9, 10), bool)


def test_the_surface_of_a_block_is_all_but_its_inside() -> None:
    mask = empty()
    mask[1:5, 2:6, 3:8] = True  # 4 x 4 x 5 voxels around 2 x 2 x 3
    points_mm = list_surface_mm(mask, SPACING_ZYX_MM)
    assert len(points_mm) == 80 - 12
    assert points_mm.min(axis=0).tolist() == [1 * 3.0, 2 * 2.5, 3 * 2.0]
    assert points_mm.max(axis=0).tolist() == [4 * 3.0, 5 * 2.5, 7 * 2.0]


def test_beyond_the_array_is_outside() -> None:
    """A mask that fills its array has a surface all the same."""
    assert len(list_surface_mm(np.ones((4, 4, 5), bool), SPACING_ZYX_MM)) == 80 - 12


def test_a_missing_corner_bares_no_voxel() -> None:
    """Only neighbours across a face count: the inner voxel of a 3-cube without one corner."""
    mask = np.ones((3, 3, 3), bool)
    mask[0, 0, 0] = False
    assert [3.0, 2.5, 2.0] not in list_surface_mm(mask, SPACING_ZYX_MM).tolist()


@pytest.mark.parametrize(
    ("step", "distance_mm"),
    [((0, 0, 1), 2.0), ((0, 1, 0), 2.5), ((1, 0, 0), 3.0), ((2, 0, 4), 10.0)],
)
def test_two_voxels(step: tuple[int, int, int], distance_mm: float) -> None:
    first, second = empty(), empty()
    first[2, 2, 2] = second[2 + step[0], 2 + step[1], 2 + step[2]] = True
    distances = measure_surface_distances(first, second, SPACING_ZYX_MM)
    assert [d.tolist() for d in distances] == [[distance_mm], [distance_mm]]
    assert hausdorff_95_mm(*distances) == distance_mm
    assert surface_dice(*distances, distance_mm) == 1.0
    assert surface_dice(*distances, distance_mm - 0.1) == 0.0


def test_two_parallel_plates() -> None:
    first, second = empty(), empty()
    first[1], second[5] = True, True
    distances = measure_surface_distances(first, second, SPACING_ZYX_MM)
    assert all(np.all(d == 12.0) and len(d) == 90 for d in distances)


def test_one_stray_voxel_moves_the_distance_only_one_way() -> None:
    """A plate of 90 voxels against itself and a voxel 12 mm off: 1 of 91 is not a twentieth."""
    first, second = empty(), empty()
    first[1] = second[1] = True
    second[5, 4, 4] = True
    distances = measure_surface_distances(first, second, SPACING_ZYX_MM)
    assert (distances[0].max(), distances[1].max()) == (0.0, 12.0)
    assert hausdorff_95_mm(*distances) == 0.0
    assert surface_dice(*distances, 1.0) == pytest.approx(180 / 181)


def test_percentiles_are_those_of_the_worse_surface() -> None:
    """Two voxels, of which one is met: 95 % of the way from 0 to 8 mm."""
    first, second = empty(), empty()
    first[0, 0, 0] = second[0, 0, 0] = second[0, 0, 4] = True
    distances = measure_surface_distances(first, second, SPACING_ZYX_MM)
    assert hausdorff_95_mm(*distances) == pytest.approx(0.95 * 8.0)
    assert surface_dice(*distances, 2.0) == pytest.approx(2 / 3)


def test_rounding_of_the_spacing_is_no_distance() -> None:
    first, second = empty(), empty()
    first[2, 2, 2] = second[3, 2, 2] = True
    distances = measure_surface_distances(first, second, (3.0 + 1e-7, 2.5, 2.0))
    assert surface_dice(*distances, 3.0) == 1.0


def test_agrees_with_monai_on_random_masks() -> None:
    rng = np.random.default_rng(11)
    for _ in range(60):
        shape = tuple(rng.integers(2, 12, 3))
        first, second = (rng.random(shape) < rng.choice([0.05, 0.3, 0.8]) for _ in range(2))
        first[0, 0, 0] = second[-1, -1, -1] = True
        # No tolerance is a distance of this lattice, where rounding would decide.
        z, y, x = (float(side) for side in rng.uniform(1.0, 5.0, 3))
        spacing_mm = (z, y, x)
        distances = measure_surface_distances(first, second, spacing_mm)
        one, two = (torch.from_numpy(mask)[None, None].float() for mask in (first, second))
        dice = compute_surface_dice(
            one, two, class_thresholds=[2.5], include_background=True, spacing=spacing_mm
        )
        hd95_mm = compute_hausdorff_distance(
            one, two, include_background=True, percentile=95, spacing=spacing_mm
        )
        assert surface_dice(*distances, 2.5) == pytest.approx(float(dice), abs=1e-6)
        assert hausdorff_95_mm(*distances) == pytest.approx(float(hd95_mm), rel=1e-5)
