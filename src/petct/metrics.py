"""How well one predicted lesion mask agrees with its reference.

A lesion is a connected component of a mask. Masks are boolean (Z, Y, X) arrays on one grid.
Dice, false-positive and false-negative volume are autoPET's.

With the reference empty, Dice, surface Dice, HD95 and the false-negative volume do not exist and
are NaN, and every predicted component is a false positive, also where the prediction is empty too.
With the prediction empty and the reference not, Dice and surface Dice are 0, and HD95, a distance
to a surface that is not there, is NaN: its mean leaves out the studies that went worst. Means over
studies leave NaN out, so a mean needs its denominator beside it. Source: the autoPET challenges'
evaluation, https://github.com/ClinicalDataScience/autoPETIII.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cc3d
import numpy as np
import pandas as pd
from scipy import sparse
from scipy.sparse.csgraph import maximum_bipartite_matching

from petct.errors import PetctError
from petct.manifests import whole_table
from petct.surfaces import hausdorff_95_mm, measure_surface_distances, surface_dice

# A voxel's neighbours: by faces, edges too, corners too.
NEIGHBOURHOODS = (6, 18, 26)

EXPERIMENT_COLUMNS = ["strategy", "model", "cohort"]
TEXT_COLUMNS = ["dataset", "study", "patient", *EXPERIMENT_COLUMNS]


@dataclass(frozen=True)
class MaskScore:
    """The agreement of a predicted with a reference mask; volumes in mL, counts of lesions.

    ``fp_volume_ml`` is the volume of the predicted lesions that touch no reference voxel,
    ``fn_volume_ml`` that of the reference lesions that no predicted voxel touches.

    Of ``lesions_reference``, ``lesions_found`` are those that a detection criterion counts; of
    ``lesions_predicted``, ``lesions_false`` are those that it does not. The criteria:

    - no suffix: the lesion shares a voxel with the other mask. One predicted lesion may find
      several, several may find one.
    - ``_iou10``, ``_iou50``: the lesion is one of a pair whose intersection over union is at least
      0.1, 0.5. Each lesion is in one pair at most, and there are as many pairs as can be.
    - ``_suvmax``: the lesion's hottest voxel (any of them, if several are equal) lies in the other
      mask.

    ``surface_dice`` and ``hd95_mm`` are described in petct.surfaces. The total lesion glycolysis
    of a mask, ``_tlg``, is its mean SUV times its volume [g/mL x mL], 0 if it is empty.
    """

    positive: bool
    reference_ml: float
    predicted_ml: float
    dice: float
    fp_volume_ml: float
    fn_volume_ml: float
    lesions_reference: int
    lesions_predicted: int
    lesions_found: int
    lesions_false: int
    lesions_found_iou10: int
    lesions_false_iou10: int
    lesions_found_iou50: int
    lesions_false_iou50: int
    lesions_found_suvmax: int
    lesions_false_suvmax: int
    surface_dice: float
    hd95_mm: float
    reference_tlg: float
    predicted_tlg: float


@dataclass(frozen=True)
class Lesions:
    """The connected components of a mask.

    ``numbers`` holds the lesion of each voxel of the mask, from 0, in the order in which
    ``volume[mask]`` gives any volume's values. ``voxels`` holds each lesion's size.
    """

    numbers: np.ndarray
    voxels: np.ndarray

    def having(self, chosen: np.ndarray) -> np.ndarray:
        """For each lesion: is any of its voxels ``chosen``? Booleans, as ``chosen`` has for each
        voxel of the mask.
        """
        return np.bincount(self.numbers[chosen], minlength=len(self.voxels)) > 0

    def hottest(self, suv: np.ndarray) -> np.ndarray:
        """For each voxel of the mask, whose SUV is given: has none in its lesion a higher one?"""
        suvmax = np.full(len(self.voxels), -np.inf)
        np.maximum.at(suvmax, self.numbers, suv)
        return suv == suvmax[self.numbers]


def find_lesions(mask: np.ndarray, connectivity: int) -> Lesions:
    """Number the connected components of a boolean (Z, Y, X) mask.

    ``connectivity`` is the number of neighbours of a voxel: 6 (faces), 18 (and edges) or
    26 (and corners).
    """
    if connectivity not in NEIGHBOURHOODS:
        raise PetctError(f"connectivity: got {connectivity}, expected 6, 18 or 26")
    # The library reserves too few labels for some blocks without a margin and then fails.
    mask = np.pad(mask[bounding_slices(mask)], 1)
    labels = cc3d.connected_components(
        mask,
        connectivity=connectivity,  # type: ignore[call-overload]
        binary_image=True,
    )
    numbers = labels.ravel()[np.flatnonzero(mask)].astype(np.intp) - 1
    return Lesions(numbers, np.bincount(numbers))


@dataclass(frozen=True)
class Overlaps:
    """The pairs of a reference and a predicted lesion that share a voxel.

    ``reference`` and ``predicted`` hold the lesions' numbers, ``iou`` their intersection over
    union. ``shape`` counts all lesions of the two masks.
    """

    reference: np.ndarray
    predicted: np.ndarray
    iou: np.ndarray
    shape: tuple[int, int]

    def count_matches(self, at_least: float) -> int:
        """How many lesions can be paired one to one with an IoU of ``at_least``."""
        if not len(self.iou):
            return 0
        close = self.iou >= at_least
        pairs = (self.reference[close], self.predicted[close])
        table = sparse.csr_array((np.ones(len(pairs[0])), pairs), shape=self.shape)
        return int(np.count_nonzero(maximum_bipartite_matching(table, "column") >= 0))


def find_overlaps(
    reference: Lesions, predicted: Lesions, shared_reference: np.ndarray, shared: np.ndarray
) -> Overlaps:
    """Which lesions overlap. ``shared_reference`` says of each voxel of the reference whether it
    is predicted, ``shared`` of each predicted voxel whether it is in the reference.
    """
    shape = len(reference.voxels), len(predicted.voxels)
    # Both lists run through the shared voxels in the same order.
    pairs = reference.numbers[shared_reference] * np.int64(shape[1]) + predicted.numbers[shared]
    found, voxels = np.unique(pairs, return_counts=True)
    rows, columns = np.divmod(found, max(shape[1], 1))
    union = reference.voxels[rows] + predicted.voxels[columns] - voxels
    return Overlaps(rows, columns, voxels / union, shape)


def bounding_slices(*masks: np.ndarray) -> tuple[slice, ...]:
    """The smallest block that holds every true voxel of masks of one shape, one slice per axis;
    empty if none is true.
    """
    slices = []
    axes = range(masks[0].ndim)
    for axis in axes:
        others = tuple(other for other in axes if other != axis)
        # Not of the masks' union, which would be a volume more.
        filled = np.flatnonzero(np.any([mask.any(axis=others) for mask in masks], axis=0))
        slices.append(slice(int(filled[0]), int(filled[-1]) + 1) if filled.size else slice(0, 0))
    return tuple(slices)


def score_masks(
    predicted: np.ndarray,
    reference: np.ndarray,
    suv: np.ndarray,
    spacing_zyx_mm: tuple[float, float, float],
    connectivity: int,
    surface_tolerance_mm: float,
) -> MaskScore:
    """Compare two boolean (Z, Y, X) masks on the grid of the SUV [g/mL].

    ``connectivity`` is that of find_lesions. Surfaces no further apart than
    ``surface_tolerance_mm`` agree. Raises PetctError if the shapes differ.
    """
    for what, array in (("prediction", predicted), ("SUV", suv)):
        if array.shape != reference.shape:
            raise PetctError(
                f"{what} has shape {array.shape} (Z, Y, X), expected the reference's "
                f"{reference.shape}"
            )
    voxel_ml = float(np.prod(spacing_zyx_mm)) / 1000.0
    # Lesions fill little of a study: all work is done in the block around them, and most of it on
    # lists of their voxels.
    block = bounding_slices(predicted, reference)
    predicted, reference = (np.ascontiguousarray(mask[block]) for mask in (predicted, reference))
    suv = suv[block]
    predicted_lesions = find_lesions(predicted, connectivity)
    reference_lesions = find_lesions(reference, connectivity)
    predicted_at = np.unravel_index(np.flatnonzero(predicted), predicted.shape)
    reference_at = np.unravel_index(np.flatnonzero(reference), reference.shape)
    predicted_suv, reference_suv = suv[predicted_at], suv[reference_at]
    # Of each predicted voxel: is it in the reference? Of each reference voxel: is it predicted?
    true, hit = reference[predicted_at], predicted[reference_at]

    false = ~predicted_lesions.having(true)
    found = reference_lesions.having(hit)
    overlaps = find_overlaps(reference_lesions, predicted_lesions, hit, true)
    matches_10, matches_50 = overlaps.count_matches(0.1), overlaps.count_matches(0.5)
    hot_true = predicted_lesions.having(true & predicted_lesions.hottest(predicted_suv))
    hot_found = reference_lesions.having(hit & reference_lesions.hottest(reference_suv))

    positive, any_predicted = len(hit) > 0, len(true) > 0
    surface, hd95_mm = (0.0 if positive else np.nan), np.nan
    if positive and any_predicted:
        distances = measure_surface_distances(predicted, reference, spacing_zyx_mm)
        surface = surface_dice(*distances, surface_tolerance_mm)
        hd95_mm = hausdorff_95_mm(*distances)
    missed_ml = int(reference_lesions.voxels[~found].sum()) * voxel_ml
    return MaskScore(
        positive=positive,
        reference_ml=len(hit) * voxel_ml,
        predicted_ml=len(true) * voxel_ml,
        dice=2 * int(hit.sum()) / (len(hit) + len(true)) if positive else np.nan,
        fp_volume_ml=int(predicted_lesions.voxels[false].sum()) * voxel_ml,
        fn_volume_ml=missed_ml if positive else np.nan,
        lesions_reference=len(found),
        lesions_predicted=len(false),
        lesions_found=int(found.sum()),
        lesions_false=int(false.sum()),
        lesions_found_iou10=matches_10,
        lesions_false_iou10=len(false) - matches_10,
        lesions_found_iou50=matches_50,
        lesions_false_iou50=len(false) - matches_50,
        lesions_found_suvmax=int(hot_found.sum()),
        lesions_false_suvmax=len(false) - int(hot_true.sum()),
        surface_dice=surface,
        hd95_mm=hd95_mm,
        reference_tlg=float(reference_suv.sum(dtype=np.float64)) * voxel_ml,
        predicted_tlg=float(predicted_suv.sum(dtype=np.float64)) * voxel_ml,
    )


def read_table(path: Path) -> pd.DataFrame:
    """A table of studies or experiments: names stay text ("007", "NA"), "nan" is undefined."""
    return pd.read_csv(
        whole_table(path),
        sep="\t",
        dtype={column: str for column in TEXT_COLUMNS},
        keep_default_na=False,
        na_values=["nan"],
    )
