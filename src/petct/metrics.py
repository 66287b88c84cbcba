"""How well one predicted lesion mask agrees with its reference: autoPET's definitions.

A lesion is a connected component of a mask. Masks are boolean (Z, Y, X) arrays on one grid.

With the reference empty, Dice and the false-negative volume do not exist and are NaN, and every
predicted component is a false positive. Means over studies leave NaN out, so a mean needs its
denominator beside it. Source: the autoPET challenges' evaluation,
https://github.com/ClinicalDataScience/autoPETIII.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage

from petct.errors import PetctError

# How many coordinates two neighbouring voxels may differ in: faces, edges, corners.
NEIGHBOURHOODS = {6: 1, 18: 2, 26: 3}

EXPERIMENT_COLUMNS = ["strategy", "model", "cohort"]
TEXT_COLUMNS = ["dataset", "study", "patient", *EXPERIMENT_COLUMNS]


@dataclass(frozen=True)
class MaskScore:
    """The agreement of a predicted with a reference mask; volumes in mL, counts of lesions.

    ``fp_volume_ml`` is the volume of the predicted lesions that touch no reference voxel,
    ``fn_volume_ml`` that of the reference lesions that no predicted voxel touches.
    ``lesions_found`` of the ``lesions_reference`` are touched by a predicted voxel;
    ``lesions_false`` of the ``lesions_predicted`` touch no reference voxel.
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


@dataclass(frozen=True)
class Lesions:
    """The connected components of a mask.

    ``labels`` is int32 (Z, Y, X): 0 outside, else the lesion's number from 1.
    ``voxels`` holds each lesion's size, lesion 1 first.
    """

    labels: np.ndarray
    voxels: np.ndarray

    def touching(self, mask: np.ndarray) -> np.ndarray:
        """For each lesion, lesion 1 first: does it share a voxel with ``mask``? Boolean."""
        shared = np.bincount(self.labels[mask], minlength=len(self.voxels) + 1)
        return shared[1:] > 0


def find_lesions(mask: np.ndarray, connectivity: int) -> Lesions:
    """Number the connected components of a boolean (Z, Y, X) mask.

    ``connectivity`` is the number of neighbours of a voxel: 6 (faces), 18 (and edges) or
    26 (and corners).
    """
    if connectivity not in NEIGHBOURHOODS:
        raise PetctError(f"connectivity: got {connectivity}, expected 6, 18 or 26")
    structure = ndimage.generate_binary_structure(3, NEIGHBOURHOODS[connectivity])
    labels, count = ndimage.label(mask, structure)
    return Lesions(labels, np.bincount(labels[mask], minlength=count + 1)[1:])


def bounding_slices(mask: np.ndarray) -> tuple[slice, ...]:
    """The smallest block that holds every true voxel, one slice per axis; empty if none is true."""
    slices = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        filled = np.flatnonzero(mask.any(axis=others))
        slices.append(slice(int(filled[0]), int(filled[-1]) + 1) if filled.size else slice(0, 0))
    return tuple(slices)


def score_masks(
    predicted: np.ndarray, reference: np.ndarray, voxel_ml: float, connectivity: int
) -> MaskScore:
    """Compare two boolean (Z, Y, X) masks on one grid, whose voxels measure ``voxel_ml``.

    Raises PetctError if the shapes differ.
    """
    if predicted.shape != reference.shape:
        raise PetctError(
            f"prediction has shape {predicted.shape} (Z, Y, X), expected the reference's "
            f"{reference.shape}"
        )
    # Lesions fill little of a study; numbering the block around them spares most of the work.
    block = bounding_slices(predicted | reference)
    predicted, reference = predicted[block], reference[block]
    predicted_lesions = find_lesions(predicted, connectivity)
    reference_lesions = find_lesions(reference, connectivity)
    false = ~predicted_lesions.touching(reference)
    found = reference_lesions.touching(predicted)
    predicted_voxels = int(predicted_lesions.voxels.sum())
    reference_voxels = int(reference_lesions.voxels.sum())
    shared_voxels = int(np.count_nonzero(predicted & reference))
    positive = reference_voxels > 0
    return MaskScore(
        positive=positive,
        reference_ml=reference_voxels * voxel_ml,
        predicted_ml=predicted_voxels * voxel_ml,
        dice=2 * shared_voxels / (predicted_voxels + reference_voxels) if positive else np.nan,
        fp_volume_ml=int(predicted_lesions.voxels[false].sum()) * voxel_ml,
        fn_volume_ml=(
            int(reference_lesions.voxels[~found].sum()) * voxel_ml if positive else np.nan
        ),
        lesions_reference=len(found),
        lesions_predicted=len(false),
        lesions_found=int(found.sum()),
        lesions_false=int(false.sum()),
    )


def total_lesion_glycolysis(suv: np.ndarray, mask: np.ndarray, voxel_ml: float) -> float:
    """Mean SUV in the mask times its volume [g/mL x mL]; 0 for an empty mask.

    ``suv`` [g/mL] and the boolean ``mask`` are (Z, Y, X) on one grid.
    """
    return float(suv[mask].sum(dtype=np.float64)) * voxel_ml


def read_table(path: Path) -> pd.DataFrame:
    """A table of studies or experiments: names stay text ("007", "NA"), "nan" is undefined."""
    return pd.read_csv(
        path,
        sep="\t",
        dtype={column: str for column in TEXT_COLUMNS},
        keep_default_na=False,
        na_values=["nan"],
    )
