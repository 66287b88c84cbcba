"""How far apart the surfaces of two masks lie.

A mask's surface is its voxels with at least one of their six neighbours outside the mask; beyond
the array is outside. Distances run between voxel centres, in millimetres. MONAI's surface Dice and
Hausdorff distance mean the same by default. DeepMind's surface-distance measures (and MONAI with
``use_subvoxels``) take surface elements half-way between voxels and weigh them by area: on a real
study with voxels of 2 x 4.07 x 4.07 mm their surface Dice was 0.94 against 0.93 here at a tolerance
of 6 mm, but 0.81 against 0.70 at 4 mm. A tolerance below the voxel's size says little with either.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial import KDTree

# NIfTI stores spacings in single precision: a distance of the tolerance's very size is within it.
_ROUNDING_MM = 1e-3
# Cells cut in the middle and not at the median point, never shrunk to their points: a third less
# time to build and search than with SciPy's defaults, as points of a grid are spread evenly.
_TREE: dict[str, Any] = {"leafsize": 32, "balanced_tree": False, "compact_nodes": False}


def list_surface_mm(mask: np.ndarray, spacing_zyx_mm: tuple[float, float, float]) -> np.ndarray:
    """The centres (N, 3) of a boolean (Z, Y, X) mask's surface voxels: z, y, x in millimetres from
    the centre of the array's first voxel.
    """
    padded = np.pad(mask, 1)
    flat = padded.ravel()
    voxels = np.flatnonzero(flat)
    inner = np.ones(len(voxels), bool)
    for step in (padded.shape[1] * padded.shape[2], padded.shape[2], 1):
        inner &= flat[voxels - step] & flat[voxels + step]
    places = np.unravel_index(voxels[~inner], padded.shape)
    return (np.stack(places, axis=1) - 1) * np.array(spacing_zyx_mm)


def measure_surface_distances(
    first: np.ndarray, second: np.ndarray, spacing_zyx_mm: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """For each surface voxel of either boolean (Z, Y, X) mask: how far the other's surface is [mm].

    Neither mask may be empty. A search tree over the surfaces' voxels gives the same distances as
    a distance transform, and does not grow with the empty space between lesions.
    """
    first_mm = list_surface_mm(first, spacing_zyx_mm)
    second_mm = list_surface_mm(second, spacing_zyx_mm)
    trees = (KDTree(points_mm, **_TREE) for points_mm in (second_mm, first_mm))
    return next(trees).query(first_mm)[0], next(trees).query(second_mm)[0]


def surface_dice(first_mm: np.ndarray, second_mm: np.ndarray, tolerance_mm: float) -> float:
    """The share of both surfaces' voxels that lie within ``tolerance_mm`` of the other surface.

    ``first_mm`` and ``second_mm`` are those of measure_surface_distances. Source: Nikolov et al.,
    Clinically applicable segmentation of head and neck anatomy for radiotherapy, J Med Internet Res
    2021, doi:10.2196/26151, who weigh by area.
    """
    distances_mm = np.concatenate([first_mm, second_mm])
    return float(np.mean(distances_mm <= tolerance_mm + _ROUNDING_MM))


def hausdorff_95_mm(first_mm: np.ndarray, second_mm: np.ndarray) -> float:
    """The larger of the two surfaces' 95th percentiles of distance (linearly interpolated) [mm]."""
    return float(max(np.percentile(first_mm, 95), np.percentile(second_mm, 95)))
