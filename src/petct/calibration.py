"""Do probabilities mean what they say: of voxels given 0.3, are three in ten lesion?

Voxels are sorted into bins of equal width by the probability that they were given. In a calibrated
bin the probabilities add up to the number of lesion voxels. The expected calibration error (ECE) is
the sum over bins of how far the two are apart, divided by the number of voxels. Source: Guo et al.,
On Calibration of Modern Neural Networks, ICML 2017, arXiv:1706.04599.

About one voxel of the body in a thousand is lesion, so nearly all lie in the lowest bin, and the
ECE over the body is small whatever the network does elsewhere. The same error over the voxels above
the lowest bin ("suspected") says what its probabilities are worth where it sees something. That
choice hangs on the probability alone: adding the lesion voxels of the lowest bin, which is a choice
by the answer, would make any network look unsure of itself. What it leaves out is counted beside
it, as the share of all lesion voxels that lie in the lowest bin.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from petct.errors import PetctError


def find_body(ct: np.ndarray, above: float) -> np.ndarray:
    """Where a CT (Z, Y, X) exceeds ``above``, with what that encloses in an axial slice: boolean.

    Filling slice by slice takes in the lungs although the airways open to the outside. The table
    counts as body where it is as dense; arms outside the CT's field do not.
    """
    in_slice = np.zeros((3, 3, 3), bool)
    in_slice[1] = ndimage.generate_binary_structure(2, 1)
    return ndimage.binary_fill_holes(ct > above, in_slice)


def bin_probabilities(
    probability: np.ndarray, lesion: np.ndarray, bins: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per bin: the number of voxels, the sum of their probabilities, the number that is lesion.

    ``probability`` and the boolean ``lesion`` have one entry per voxel. Bin i holds probabilities
    from i / ``bins`` to less than (i + 1) / ``bins``, the last one 1 as well. Raises PetctError for
    what is no probability.
    """
    probability = probability.astype(np.float32)
    wrong = ~((probability >= 0) & (probability <= 1))
    if wrong.any():
        raise PetctError(
            f"got {probability[wrong][0]} as the probability of a voxel ({wrong.sum()} such), "
            "expected 0 to 1"
        )
    number = np.minimum((probability * bins).astype(np.intp), bins - 1)
    return (
        np.bincount(number, minlength=bins),
        np.bincount(number, weights=probability, minlength=bins),
        np.bincount(number[lesion], minlength=bins),
    )


def calibration_error(excess: np.ndarray, voxels: np.ndarray) -> np.ndarray:
    """The ECE of binned voxels; bins are the last axis. NaN where there is no voxel.

    ``excess`` is the sum of probabilities less the number of lesion voxels.
    """
    total = voxels.sum(axis=-1)
    distance = np.abs(excess).sum(axis=-1)
    return np.divide(distance, total, where=total > 0, out=np.full(total.shape, np.nan))


def bootstrap_calibration_error(
    excess: np.ndarray,
    voxels: np.ndarray,
    samples: int,
    confidence: float,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Percentile interval of the ECE of all patients together, resampling patients.

    ``excess`` and ``voxels`` are (patients, bins), as in calibration_error; ``confidence`` is the
    interval's coverage. Resampling adds noise to every bin and the ECE counts noise in either
    direction as error, so that with few patients the interval lies too high. (NaN, NaN) with fewer
    than two patients.
    """
    patients = len(excess)
    if patients < 2:
        return float("nan"), float("nan")
    drawn = rng.multinomial(patients, np.full(patients, 1 / patients), size=samples)
    errors = calibration_error(drawn @ excess, drawn @ voxels)
    if np.isnan(errors).all():
        return float("nan"), float("nan")
    low, high = np.nanquantile(errors, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
