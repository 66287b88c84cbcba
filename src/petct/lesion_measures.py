"""What is told of each lesion of a mask: where it lies, how large and how hot it is.

Masks and SUV are (Z, Y, X) on one grid; positions are LPS mm of the patient's coordinates.

- SUVpeak: the highest mean SUV of a sphere of 1 cm3 whose centre is a voxel of the lesion; the
  sphere takes the voxels whose centres lie in it, in the lesion or not. Wahl et al., From RECIST to
  PERCIST, J Nucl Med 2009;50(Suppl 1):122S; as "global intensity peak" in the Image Biomarker
  Standardisation Initiative's reference manual (code 0F91), arXiv:1612.07003.
- TLG, total lesion glycolysis: mean SUV times volume [mL]; MTV, metabolic tumour volume: the sum of
  the lesions' volumes.
- largest distance: between the centroids of the two lesions furthest apart. Cottereau et al.,
  18F-FDG PET dissemination features in diffuse large B-cell lymphoma, J Nucl Med 2020;61:40.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import pdist

from petct.grids import Grid
from petct.metrics import bounding_slices, find_lesions

PEAK_SPHERE_ML = 1.0


@dataclass(frozen=True)
class LesionMeasure:
    """One lesion: ``number`` counts from 1, the largest first; ``bounding_zyx``: start, stop."""

    number: int
    voxels: int
    volume_ml: float
    centroid_xyz_mm: tuple[float, float, float]
    bounding_zyx: tuple[int, int, int, int, int, int]
    suv_max: float
    suv_mean: float
    suv_peak: float
    tlg: float


def number_lesions(mask: np.ndarray, connectivity: int) -> np.ndarray:
    """The lesion of each voxel of a boolean mask, uint16 (Z, Y, X): from 1, the largest first.

    0 is none. Of lesions of one volume the one first in the array's order comes first.
    ``connectivity``: 6, 18 or 26 neighbours. Raises ValueError for more lesions than 65,535.
    """
    lesions = find_lesions(mask, connectivity)
    count = len(lesions.voxels)
    if count > np.iinfo(np.uint16).max:
        raise ValueError(f"{count} lesions, expected no more than 65535")
    ranks = np.empty(count, np.uint16)
    ranks[np.argsort(-lesions.voxels, kind="stable")] = np.arange(1, count + 1)
    numbers = np.zeros(mask.shape, np.uint16)
    numbers[mask] = ranks[lesions.numbers]
    return numbers


def measure_lesions(numbers: np.ndarray, suv: np.ndarray, grid: Grid) -> list[LesionMeasure]:
    """Every lesion of ``number_lesions``, in order."""
    block = bounding_slices(numbers > 0)
    start_zyx = np.array([side.start for side in block])
    inside = numbers[block]
    at = np.flatnonzero(inside)
    of = inside.ravel()[at].astype(np.intp)
    # Sorted by lesion, so that each one's voxels are a stretch.
    order = np.argsort(of, kind="stable")
    at, of = at[order], of[order]
    stops = np.cumsum(np.bincount(of))[1:] if len(of) else np.empty(0, int)
    measures = []
    first = 0
    for number, stop in enumerate(stops, start=1):
        zyx = np.stack(np.unravel_index(at[first:stop], inside.shape), axis=1) + start_zyx
        values = suv[tuple(zyx.T)].astype(np.float64)
        volume_ml = len(zyx) * grid.voxel_ml
        z, y, x = zyx.mean(axis=0)
        low, high = zyx.min(axis=0), zyx.max(axis=0) + 1
        measures.append(
            LesionMeasure(
                number=number,
                voxels=len(zyx),
                volume_ml=volume_ml,
                centroid_xyz_mm=grid.locate_index((z, y, x)),
                bounding_zyx=(*map(int, low), *map(int, high)),  # type: ignore[arg-type]
                suv_max=float(values.max()),
                suv_mean=float(values.mean()),
                suv_peak=find_peak(zyx, suv, grid.spacing_zyx_mm),
                tlg=float(values.mean()) * volume_ml,
            )
        )
        first = stop
    return measures


def find_peak(
    zyx: np.ndarray, suv: np.ndarray, spacing_zyx_mm: tuple[float, float, float]
) -> float:
    """The highest mean of ``suv`` in a sphere of 1 cm3 around any of the voxels ``zyx`` (N, 3).

    Of a sphere that reaches beyond the array, what lies inside counts.
    """
    radius_mm = (PEAK_SPHERE_ML * 1000.0 * 3.0 / (4.0 * np.pi)) ** (1.0 / 3.0)
    reach = [int(radius_mm / side) for side in spacing_zyx_mm]
    offsets = np.stack(
        np.meshgrid(*(np.arange(-n, n + 1) for n in reach), indexing="ij"), axis=-1
    ).reshape(-1, 3)
    offsets = offsets[((offsets * spacing_zyx_mm) ** 2).sum(axis=1) <= radius_mm**2]
    total, count = np.zeros(len(zyx)), np.zeros(len(zyx), int)
    for offset in offsets:
        at = zyx + offset
        inside = np.all((at >= 0) & (at < suv.shape), axis=1)
        total[inside] += suv[tuple(at[inside].T)]
        count += inside
    return float((total / count).max())


def largest_distance_mm(measures: list[LesionMeasure]) -> float:
    """Between the centroids of the two lesions that lie furthest apart; NaN below two lesions."""
    if len(measures) < 2:
        return float("nan")
    return float(pdist(np.array([lesion.centroid_xyz_mm for lesion in measures])).max())
