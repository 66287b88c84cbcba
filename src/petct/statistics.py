"""How sure a figure over studies is, when studies of one patient are not independent.

Every figure here is a function of sums over studies, so that one resampling serves them all.
"""

from __future__ import annotations

import numpy as np
from scipy import stats


def sum_clusters(columns: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Each cluster's sum of every column: (studies, k) to (clusters, k), by sorted names.

    ``clusters`` names each study's patient.
    """
    names, members = np.unique(clusters, return_inverse=True)
    sums = np.zeros((len(names), columns.shape[1]))
    np.add.at(sums, members, columns)
    return sums


def resample_totals(
    columns: np.ndarray, clusters: np.ndarray, samples: int, rng: np.random.Generator
) -> np.ndarray:
    """The total of every column in each bootstrap resample of whole patients: (samples, k).

    ``columns`` is (studies, k) without NaN; ``clusters`` names each study's patient. A resample
    draws as many patients as there are, with replacement, and takes all studies of a drawn one.
    Patients are drawn in the order of their sorted names: calls with the same patients and equal
    generators resample alike. Source: Davison and Hinkley, Bootstrap Methods and their Application
    (1997), sections 2.4 and 3.8.
    """
    sums = sum_clusters(columns, clusters)
    if not len(sums):
        return np.zeros((samples, columns.shape[1]))
    # (samples, patients): how often each patient was drawn.
    drawn = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=samples)
    return drawn @ sums


def resample_means(
    columns: np.ndarray, clusters: np.ndarray, samples: int, rng: np.random.Generator
) -> np.ndarray:
    """The mean over studies of every column in each resample of ``resample_totals``."""
    counted = np.column_stack([columns, np.ones(len(columns))])
    totals = resample_totals(counted, clusters, samples, rng)
    return totals[:, :-1] / totals[:, -1:]


def percentile_interval(
    resampled: np.ndarray, patients: int, confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bound of the figures whose bootstrap resamples are (samples, k): two (k,).

    ``confidence`` is the coverage aimed at, such as 0.95. With few ``patients`` the plain
    percentiles are too close together: the spread of resamples has n where the variance's estimate
    has n - 1, and it is read as if it were known. Hence percentiles further out, which for
    symmetric data give Student's interval; source: Hesterberg, What Teachers Should Know about the
    Bootstrap, The American Statistician 69 (2015), 371-386, the expanded percentile interval.
    Resamples in which a figure is NaN are left out. NaN with fewer than two patients.
    """
    figures = resampled.shape[1]
    if patients < 2:
        return np.full(figures, np.nan), np.full(figures, np.nan)
    quantile = stats.t.ppf((1 + confidence) / 2, patients - 1)
    tail = stats.norm.cdf(-quantile * np.sqrt(patients / (patients - 1)))
    low, high = np.full(figures, np.nan), np.full(figures, np.nan)
    for i, values in enumerate(resampled.T):
        defined = values[~np.isnan(values)]
        if len(defined):
            low[i], high[i] = np.quantile(defined, [tail, 1 - tail])
    return low, high


def divide(parts: np.ndarray, wholes: np.ndarray) -> np.ndarray:
    """parts / wholes, NaN where the whole is 0."""
    return np.divide(parts, wholes, out=np.full(np.shape(wholes), np.nan), where=wholes != 0)


def clustered_bootstrap_ratio(
    numerators: np.ndarray,
    denominators: np.ndarray,
    clusters: np.ndarray,
    samples: int,
    confidence: float,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Interval of sum(numerators) / sum(denominators), one entry per study, resampling patients.

    See ``resample_totals`` and ``percentile_interval``. Resamples without a denominator, such as
    patients without lesions, are left out. (NaN, NaN) with fewer than two patients.
    """
    totals = resample_totals(np.column_stack([numerators, denominators]), clusters, samples, rng)
    low, high = percentile_interval(
        divide(totals[:, :1], totals[:, 1:]), len(np.unique(clusters)), confidence
    )
    return float(low[0]), float(high[0])


def clustered_bootstrap(
    values: np.ndarray,
    clusters: np.ndarray,
    samples: int,
    confidence: float,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Interval of the mean of ``values``, one per study, resampling whole patients.

    ``values`` must be defined (no NaN): what is left out is the caller's to say. The rest is as
    in ``clustered_bootstrap_ratio``.
    """
    return clustered_bootstrap_ratio(
        values, np.ones(len(values)), clusters, samples, confidence, rng
    )
