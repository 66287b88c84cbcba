"""Boxes around a coarse prediction."""

import numpy as np

from petct.grids import Grid
from petct.regions import cluster_boxes, find_peaks

GRID = Grid((20, 20, 20), (8.0, 8.0, 8.0), (4.0, 4.0, 4.0))


def test_two_clusters_and_a_lone_voxel_each_get_a_box() -> None:
    mask = np.zeros((20, 20, 20), bool)
    mask[2:4, 2:4, 2:4] = True
    mask[15:18, 15:18, 15:18] = True
    mask[10, 2, 17] = True  # noise to DBSCAN, a small lesion to us
    boxes = cluster_boxes(mask, GRID, cluster_distance_mm=20.0, cluster_voxels=6)
    assert sorted(boxes.tolist()) == [
        [2, 2, 2, 4, 4, 4],
        [10, 2, 17, 11, 3, 18],
        [15, 15, 15, 18, 18, 18],
    ]


def test_an_empty_mask_has_no_box() -> None:
    assert cluster_boxes(np.zeros((4, 4, 4), bool), GRID, 20.0, 6).shape == (0, 6)


def test_distances_are_in_millimetres() -> None:
    mask = np.zeros((20, 20, 20), bool)
    mask[5, 5, 5] = mask[5, 5, 7] = True  # 16 mm apart
    assert len(cluster_boxes(mask, GRID, cluster_distance_mm=15.0, cluster_voxels=1)) == 2
    assert len(cluster_boxes(mask, GRID, cluster_distance_mm=17.0, cluster_voxels=1)) == 1


def test_peaks_are_the_highest_local_maxima() -> None:
    probability = np.zeros((20, 20, 20), np.float32)
    probability[3, 3, 3], probability[3, 3, 4], probability[10, 10, 10] = 0.2, 0.1, 0.15
    assert find_peaks(probability, 5, 0.05).tolist() == [
        [3, 3, 3, 4, 4, 4],
        [10, 10, 10, 11, 11, 11],
    ]
    assert find_peaks(probability, 1, 0.05).tolist() == [[3, 3, 3, 4, 4, 4]]
    assert find_peaks(probability, 5, 0.5).shape == (0, 6)
