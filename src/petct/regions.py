"""Where a fine network looks: boxes around what a coarse one found."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from sklearn.cluster import DBSCAN

from petct.grids import Grid

# A box is a row (z0, y0, x0, z1, y1, x1): start and stop in voxels.


def cluster_boxes(
    mask: np.ndarray, grid: Grid, cluster_distance_mm: float, cluster_voxels: int
) -> np.ndarray:
    """Boxes around the DBSCAN clusters of a (Z, Y, X) mask's voxels: (N, 6).

    Distances are in mm between voxel centres. A point that DBSCAN calls noise gets a box of its
    own connected component, so that no small lesion is dropped.
    """
    voxels = np.argwhere(mask)
    if not len(voxels):
        return np.zeros((0, 6), int)
    clusters = DBSCAN(eps=cluster_distance_mm, min_samples=cluster_voxels).fit_predict(
        voxels * np.array(grid.spacing_zyx_mm)
    )
    alone = np.zeros(mask.shape, bool)
    alone[tuple(voxels[clusters < 0].T)] = True
    components, _ = ndimage.label(alone, structure=np.ones((3, 3, 3)))
    rows = [[*(s.start for s in b), *(s.stop for s in b)] for b in ndimage.find_objects(components)]
    for cluster in range(clusters.max() + 1):
        members = voxels[clusters == cluster]
        rows.append([*members.min(axis=0), *(members.max(axis=0) + 1)])
    return np.array(rows, int)


def find_peaks(probability: np.ndarray, number: int, at_least: float) -> np.ndarray:
    """One-voxel boxes at a probability's highest local maxima, at most ``number``: (N, 6)."""
    highest = ndimage.maximum_filter(probability, size=3)
    voxels = np.argwhere((probability == highest) & (probability >= at_least))
    order = np.argsort(-probability[tuple(voxels.T)], kind="stable")[:number]
    voxels = voxels[order]
    return np.hstack([voxels, voxels + 1]).reshape(-1, 6)


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
