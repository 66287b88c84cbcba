"""Where a fine network looks: boxes around what a coarse one found."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from sklearn.cluster import DBSCAN

from petct.grids import Grid


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
