"""Agreement of numbers whose bias, limits and concordance can be worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from petct.agreement import concordance, concordance_moments, limits_of_agreement

VALUES = np.array([1.0, 4.0, 10.0])


def ccc(predicted: np.ndarray, reference: np.ndarray) -> float:
    return float(concordance(concordance_moments(predicted, reference).sum(axis=0)))


def test_limits_are_the_bias_and_1_96_standard_deviations() -> None:
    """The differences 1, 2 and 3 have the mean 2 and the standard deviation 1."""
    limits = limits_of_agreement(VALUES + np.array([1, 2, 3]), VALUES, 0.95)
    assert limits == pytest.approx((2 - 1.959964, 2 + 1.959964))


def test_a_constant_bias_has_limits_without_width() -> None:
    assert limits_of_agreement(VALUES - 3.0, VALUES, 0.95) == (-3.0, -3.0)


def test_limits_hold_the_share_that_they_say() -> None:
    differences = np.random.default_rng(0).normal(5, 2, 20_000)
    low, high = limits_of_agreement(differences, np.zeros(20_000), 0.9)
    assert np.mean((low <= differences) & (differences <= high)) == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize("count", [0, 1])
def test_limits_need_two_studies(count: int) -> None:
    assert all(map(math.isnan, limits_of_agreement(VALUES[:count], VALUES[:count], 0.95)))


def test_identical_values_agree_and_mirrored_ones_disagree() -> None:
    assert ccc(VALUES, VALUES) == pytest.approx(1.0)
    assert ccc(-VALUES + 2 * VALUES.mean(), VALUES) == pytest.approx(-1.0)


def test_bias_lowers_concordance_and_not_correlation() -> None:
    """Values 0 and 2 have a variance of 1: with a bias of 2 it is 2 * 1 / (1 + 1 + 4)."""
    values = np.array([0.0, 2.0])
    assert ccc(values + 2, values) == pytest.approx(1 / 3)
    # Twice the values: covariance 2, variances 4 and 1, bias 1.
    assert ccc(2 * values, values) == pytest.approx(4 / 6)


def test_an_offset_of_both_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(0, 1, 30), rng.normal(0, 1, 30)
    expected = 2 * np.cov(x, y, ddof=0)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)
    assert ccc(x, y) == pytest.approx(expected)
    assert ccc(x + 1e6, y + 1e6) == pytest.approx(expected)


def test_without_any_spread_there_is_no_concordance() -> None:
    assert math.isnan(ccc(np.full(3, 0.1), np.full(3, 0.1)))
    assert math.isnan(ccc(np.empty(0), np.empty(0)))
    # One study, drawn five times by a resample.
    study = concordance_moments(VALUES, VALUES)[2]
    assert math.isnan(concordance(5 * study))


def test_sums_of_several_resamples_at_once() -> None:
    moments = concordance_moments(VALUES, VALUES)
    assert concordance(np.stack([moments.sum(axis=0), 3 * moments.sum(axis=0)])).tolist() == (
        pytest.approx([1.0, 1.0])
    )
