"""Whether two experiments on the same studies differ: tests, corrections, and what they can see."""

from __future__ import annotations

import numpy as np
from scipy import stats

from petct.statistics import sum_clusters

FLIPS_AT_ONCE = 4096


def sign_flip_test(
    differences: np.ndarray, clusters: np.ndarray, permutations: int, rng: np.random.Generator
) -> np.ndarray:
    """Two-sided p of a zero mean for each column of paired differences: (studies, k) to (k,).

    If two experiments are alike, a patient's differences could as well have had the other sign:
    p is the share of sign flips with a mean at least as far from 0 as the observed one. All
    studies of a patient (``clusters`` names it) flip together. If half the flips, which is all
    that differ, number at most ``permutations``, each is tried and p is exact; else as many are
    drawn, the observed one counts as one more, and p is (b + 1) / (m + 1). The columns share their
    flips. NaN without studies. Sources: Winkler et al., NeuroImage 92 (2014), 381-397 (flipping
    whole blocks); Phipson and Smyth, Stat. Appl. Genet. Mol. Biol. 9 (2010), 39 (the added one).
    """
    sums = sum_clusters(differences, clusters)
    patients = len(sums)
    if not patients:
        return np.full(differences.shape[1], np.nan)
    exact = _is_exact(patients, permutations)
    flips = 2 ** (patients - 1) if exact else permutations
    # Sums of the same numbers in another order must count as equal.
    observed = np.abs(sums.sum(axis=0)) - 1e-9 * np.abs(sums).sum(axis=0)
    extreme = np.zeros(differences.shape[1])
    for start in range(0, flips, FLIPS_AT_ONCE):
        numbers = np.arange(start, min(start + FLIPS_AT_ONCE, flips))
        if exact:
            # The last patient keeps the sign: flipping everybody changes no distance from 0.
            flipped = numbers[:, None] >> np.arange(patients) & 1
        else:
            flipped = rng.integers(0, 2, (len(numbers), patients))
        extreme += (np.abs((1 - 2 * flipped) @ sums) >= observed).sum(axis=0)
    return extreme / flips if exact else (extreme + 1) / (flips + 1)


def smallest_p(patients: int, permutations: int) -> float:
    """The smallest p that ``sign_flip_test`` can give when ``patients`` have any difference.

    2 / 2^n: all signs as observed, or all flipped; never below 1 / (permutations + 1) where flips
    are drawn. 1 without such a patient.
    """
    if patients == 0:
        return 1.0
    if _is_exact(patients, permutations):
        return 2.0 ** (1 - patients)
    return 1 / (permutations + 1)


def _is_exact(patients: int, permutations: int) -> bool:
    return 2 ** (patients - 1) <= permutations


def adjust_holm(p: np.ndarray) -> np.ndarray:
    """Holm's adjusted p of one family of tests, without NaN, in the order given.

    Below 0.05 in a family means: the chance that the family has any such false finding is at most
    0.05, however the tests depend on each other. Source: Holm, Scand. J. Statist. 6 (1979), 65-70.
    """
    order = np.argsort(p, kind="stable")
    scaled = p[order] * (len(p) - np.arange(len(p)))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted


def detectable_difference(
    low: np.ndarray, high: np.ndarray, confidence: float, power: float
) -> np.ndarray:
    """The true difference that a study whose interval is this wide finds with ``power``.

    Half the interval's width is found half of the time only. For another power it grows in the
    ratio (z of the confidence + z of the power) / z of the confidence: by 1.43 for 0.95 and 0.8,
    taking the mean for normal. One comparison on its own; a corrected one needs more. NaN for an
    interval without width, which says nothing of what else could have been.
    """
    z = stats.norm.ppf((1 + confidence) / 2)
    width = np.where(high > low, high - low, np.nan)
    return width / 2 * (1 + stats.norm.ppf(power) / z)
