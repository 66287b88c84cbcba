"""Boxes carried between grids, joined, counted and widened."""

from __future__ import annotations

import numpy as np
import pytest

from array_studies import Box
from petct.boxes import cover_boxes, merge_boxes, place_boxes, widen_box
from petct.grids import Grid

GRID = Grid((20, 20, 20), (8.0, 8.0, 8.0), (4.0, 4.0, 4.0))
WINDOW, SHAPE = (8, 8, 8), (13, 20, 17)


def test_a_box_on_a_grid_of_half_the_spacing() -> None:
    fine = GRID.respace((4.0, 4.0, 4.0))
    boxes = place_boxes(np.array([[2, 2, 2, 4, 4, 4]]), GRID, fine, margin_mm=4.0)
    assert boxes.tolist() == [[3, 3, 3, 9, 9, 9]]
    # Cut to the grid at its border, gone beyond it.
    boxes = place_boxes(np.array([[0, 0, 0, 1, 1, 1]]), GRID, fine, margin_mm=8.0)
    assert boxes.tolist() == [[0, 0, 0, 4, 4, 4]]
    assert len(place_boxes(np.array([[25, 0, 0, 26, 1, 1]]), GRID, fine, margin_mm=0.0)) == 0


def test_overlapping_boxes_become_one_touching_ones_stay_two() -> None:
    boxes = np.array(
        [[0, 0, 0, 2, 2, 2], [4, 4, 4, 6, 6, 6], [1, 1, 1, 5, 5, 5], [6, 4, 4, 8, 6, 6]]
    )
    assert merge_boxes(boxes).tolist() == [[0, 0, 0, 6, 6, 6], [6, 4, 4, 8, 6, 6]]


def test_cover_counts_each_voxel_once() -> None:
    boxes = np.array([[0, 0, 0, 2, 2, 2], [1, 1, 1, 3, 3, 3]])
    assert cover_boxes(boxes, (4, 4, 4)).sum() == 8 + 8 - 1


@pytest.mark.parametrize(
    ("box", "start", "shape"),
    [
        ((4, 4, 4, 6, 6, 6), (1, 1, 1), (8, 8, 8)),  # widened alike on both sides
        ((4, 4, 4, 7, 7, 7), (1, 1, 1), (8, 8, 8)),  # 5 missing: 3 before, 2 after
        ((0, 0, 0, 2, 2, 2), (0, 0, 0), (8, 8, 8)),  # moved in from below
        ((11, 18, 15, 13, 20, 17), (5, 12, 9), (8, 8, 8)),  # and from above
        ((1, 2, 3, 12, 14, 16), (1, 2, 3), (11, 12, 13)),  # large enough as it is
        ((0, 0, 0, 13, 20, 17), (0, 0, 0), (13, 20, 17)),
    ],
)
def test_a_box_is_widened_within_the_study(
    box: Box, start: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    assert widen_box(np.array(box), WINDOW, SHAPE) == (start, shape)


def test_a_box_is_no_larger_than_the_study() -> None:
    assert widen_box(np.array([1, 1, 1, 3, 3, 3]), (8, 8, 8), (5, 9, 8)) == (
        (0, 0, 0),
        (5, 8, 8),
    )
