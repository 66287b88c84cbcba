"""How well a predicted quantity agrees with the measured one, such as a study's tumour volume."""

from __future__ import annotations

import numpy as np
from scipy import stats

from petct.statistics import divide


def limits_of_agreement(
    predicted: np.ndarray, reference: np.ndarray, coverage: float
) -> tuple[float, float]:
    """Between which differences predicted - reference a share ``coverage`` of all studies lies.

    Mean difference -+ z standard deviations (n - 1), z = 1.96 for a coverage of 0.95, in the unit
    of the two arrays, one entry per study. Takes the differences for normal and the studies for
    independent. (NaN, NaN) with fewer than two studies. Source: Bland and Altman, Lancet 327
    (1986), 307-310.
    """
    if len(predicted) < 2:
        return float("nan"), float("nan")
    differences = predicted - reference
    reach = stats.norm.ppf((1 + coverage) / 2) * differences.std(ddof=1)
    return float(differences.mean() - reach), float(differences.mean() + reach)


def concordance_moments(predicted: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """What each study adds to ``concordance``'s sums: (studies, 6).

    The columns are 1, x, y, x^2, y^2 and x y, of the predicted x and the reference y.
    """
    # One origin for both changes no concordance; near the data it keeps the squares exact.
    origin = reference.mean() if len(reference) else 0.0
    x, y = predicted - origin, reference - origin
    return np.column_stack([np.ones(len(x)), x, y, x**2, y**2, x * y])


def concordance(moments: np.ndarray) -> np.ndarray:
    """Lin's concordance correlation coefficient of summed moments: (..., 6) to (...).

    2 cov(x, y) / (var(x) + var(y) + (mean(x) - mean(y))^2), with variances over n: 1 if every
    prediction equals its reference, 0 if they have nothing in common. NaN where all x and y are
    one value. Source: Lin, Biometrics 45 (1989), 255-268.
    """
    n, x, y, xx, yy, xy = np.moveaxis(moments, -1, 0)
    mean_x, mean_y = divide(x, n), divide(y, n)
    spread = divide(xx + yy, n) - 2 * mean_x * mean_y
    # Of one study drawn n times only rounding errors are left.
    spread = np.where(spread > 1e-12 * divide(xx + yy, n), spread, 0.0)
    return divide(2 * (divide(xy, n) - mean_x * mean_y), spread)
