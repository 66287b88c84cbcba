"""How sure a mean over studies is, when studies of one patient are not independent."""

from __future__ import annotations

import numpy as np


def clustered_bootstrap_ratio(
    numerators: np.ndarray,
    denominators: np.ndarray,
    clusters: np.ndarray,
    samples: int,
    confidence: float,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Percentile interval of sum(numerators) / sum(denominators), resampling whole clusters.

    The three arrays have one entry per study; ``clusters`` names its patient. Each of the
    ``samples`` draws as many patients as there are, with replacement, and takes all studies of a
    drawn patient. ``confidence`` is the interval's coverage, such as 0.95. Patients are drawn in
    the order of their sorted names, so two calls with the same patients and equal generators
    resample alike. (NaN, NaN) with fewer than two patients. Source: Davison and Hinkley,
    Bootstrap Methods and their Application (1997), sections 2.4, 3.8 and 5.3.
    """
    names, members = np.unique(clusters, return_inverse=True)
    if len(names) < 2:
        return float("nan"), float("nan")
    cluster_numerators = np.bincount(members, weights=numerators)
    cluster_denominators = np.bincount(members, weights=denominators)
    # (samples, patients): how often each patient was drawn.
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=samples)
    # A ratio of counts may draw only patients without lesions: then it does not exist.
    totals = drawn @ cluster_denominators
    defined = totals > 0
    if not defined.any():
        return float("nan"), float("nan")
    ratios = (drawn @ cluster_numerators)[defined] / totals[defined]
    tail = (1 - confidence) / 2
    low, high = np.quantile(ratios, [tail, 1 - tail])
    return float(low), float(high)


def clustered_bootstrap(
    values: np.ndarray,
    clusters: np.ndarray,
    samples: int,
    confidence: float,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Percentile interval of the mean of ``values``, one per study, resampling whole patients.

    ``values`` must be defined (no NaN): what is left out is the caller's to say. The rest is as
    in ``clustered_bootstrap_ratio``.
    """
    return clustered_bootstrap_ratio(
        values, np.ones(len(values)), clusters, samples, confidence, rng
    )
