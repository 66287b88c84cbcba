"""Boxes of voxels: a box is a row (z0, y0, x0, z1, y1, x1) of start and stop."""

from __future__ import annotations

from itertools import combinations
from math import ceil, prod

import numpy as np

from petct.grids import Grid, Index


def place_boxes(boxes_zyx: np.ndarray, source: Grid, target: Grid, margin_mm: float) -> np.ndarray:
    """Boxes on another grid of the same directions, with a margin, cut to fit that grid.

    A target voxel belongs to a box if any part of it does. Boxes outside the target vanish.
    """
    axes = np.array(source.direction).reshape(3, 3)
    shift_zyx_mm = (axes.T @ (np.array(source.origin_xyz_mm) - target.origin_xyz_mm))[::-1]
    from_mm, to_mm = np.array(source.spacing_zyx_mm), np.array(target.spacing_zyx_mm)
    # Voxel edges, measured from the target's outer corner.
    corner_mm = shift_zyx_mm - from_mm / 2 + to_mm / 2
    low_mm = boxes_zyx[:, :3] * from_mm + corner_mm - margin_mm
    high_mm = boxes_zyx[:, 3:] * from_mm + corner_mm + margin_mm
    shape = np.array(target.shape_zyx)
    low = np.clip(np.floor(low_mm / to_mm + 1e-6), 0, shape).astype(int)
    high = np.clip(np.ceil(high_mm / to_mm - 1e-6), 0, shape).astype(int)
    return np.hstack([low, high])[(high > low).all(axis=1)]


def merge_boxes(boxes_zyx: np.ndarray) -> np.ndarray:
    """Boxes that share a voxel are joined to their hull, until none do: (N, 6), sorted."""
    boxes = [row.copy() for row in boxes_zyx]
    merged: list[np.ndarray] = []
    while boxes:
        box = boxes.pop()
        near = [
            i for i, b in enumerate(merged) if (box[:3] < b[3:]).all() and (b[:3] < box[3:]).all()
        ]
        if near:
            for i in reversed(near):
                other = merged.pop(i)
                box[:3] = np.minimum(box[:3], other[:3])
                box[3:] = np.maximum(box[3:], other[3:])
            boxes.append(box)
        else:
            merged.append(box)
    return np.array(sorted(merged, key=tuple), int).reshape(-1, 6)


def cover_boxes(boxes_zyx: np.ndarray, shape_zyx: tuple[int, int, int]) -> np.ndarray:
    """A (Z, Y, X) bool array, true inside the boxes."""
    covered = np.zeros(shape_zyx, bool)
    for z0, y0, x0, z1, y1, x1 in boxes_zyx:
        covered[z0:z1, y0:y1, x0:x1] = True
    return covered


def widen_box(box_zyx: np.ndarray, at_least_zyx: Index, shape_zyx: Index) -> tuple[Index, Index]:
    """Start and shape of a box made at least a window large, moved to lie inside the study."""
    start, shape = [], []
    for axis in range(3):
        low, high = int(box_zyx[axis]), int(box_zyx[axis + 3])
        size = max(high - low, min(at_least_zyx[axis], shape_zyx[axis]))
        low = min(max(0, (low + high - size) // 2), shape_zyx[axis] - size)
        start.append(low)
        shape.append(size)
    return (start[0], start[1], start[2]), (shape[0], shape[1], shape[2])


def group_boxes(
    boxes_zyx: np.ndarray, window_zyx: Index, shape_zyx: Index, overlap: float
) -> list[tuple[Index, Index, np.ndarray]]:
    """Start and shape of stretches that cover the boxes, and the rows of ``boxes_zyx`` in each.

    A stretch is at least a window large. Two are joined while the hull of both takes no more
    windows, which overlap by a share of ``overlap``, than the two of them.
    """

    def count(rows: np.ndarray) -> int:
        _, shape = widen_box(_hull(rows), window_zyx, shape_zyx)
        windows = zip(shape, window_zyx, strict=True)
        return prod(count_windows(n, size, overlap) for n, size in windows)

    groups = [(row[None], count(row[None])) for row in boxes_zyx]
    while True:
        for one, other in combinations(groups, 2):
            both = np.vstack([one[0], other[0]])
            if (together := count(both)) <= one[1] + other[1]:
                groups = [g for g in groups if g is not one and g is not other]
                groups.append((both, together))
                break
        else:
            return [(*widen_box(_hull(rows), window_zyx, shape_zyx), rows) for rows, _ in groups]


def count_windows(length: int, size: int, overlap: float) -> int:
    """How many windows cover a length if neighbours share at least ``overlap`` of a window."""
    return max(0, ceil((length - size) / (size * (1.0 - overlap)) - 1e-9)) + 1


def _hull(boxes_zyx: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes_zyx[:, :3].min(axis=0), boxes_zyx[:, 3:].max(axis=0)])
