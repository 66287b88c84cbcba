"""Boxes carried between grids, joined, counted and widened."""

from __future__ import annotations

import numpy as np
import pytest

from array_studies import Box
from petct.boxes import cover_boxes, group_boxes, merge_boxes, place_boxes, widen_box
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


def test_boxes_are_read_together_where_that_takes_no_more_windows() -> None:
    shape = (40, 40, 40)
    near = np.array([[10, 10, 10, 12, 12, 12], [14, 10, 10, 16, 12, 12]])
    # Both fit into one window of 8: z 10 to 16, widened by one on either side.
    ((start, size, rows),) = group_boxes(near, WINDOW, shape, 0.25)
    assert (start, size, rows.tolist()) == ((9, 7, 7), (8, 8, 8), near.tolist())
    # A hull of 14 along z takes two windows, as many as apart; one of 15 takes three.
    for far, stretches in ((22, 1), (23, 2)):
        boxes = np.array([[10, 10, 10, 12, 12, 12], [far, 10, 10, far + 2, 12, 12]])
        assert len(group_boxes(boxes, WINDOW, shape, 0.25)) == stretches
    assert group_boxes(np.zeros((0, 6), int), WINDOW, shape, 0.25) == []
