"""Intervals whose width is known: from constants, from a formula."""

from __future__ import annotations

import math

import numpy as np
import pytest

from petct.statistics import (
    clustered_bootstrap,
    clustered_bootstrap_ratio,
    divide,
    percentile_interval,
    resample_means,
    resample_totals,
    sum_clusters,
)


def interval(values: np.ndarray, clusters: np.ndarray, samples: int = 4000) -> tuple[float, float]:
    return clustered_bootstrap(values, clusters, samples, 0.95, np.random.default_rng(5))


def test_constant_values_give_an_interval_without_width() -> None:
    low, high = interval(np.full(20, 0.7), np.repeat(np.arange(10), 2))
    assert low == pytest.approx(0.7)
    assert high == pytest.approx(0.7)


def test_matches_the_normal_approximation() -> None:
    """Of n independent values the mean's standard error is sd / sqrt(n)."""
    values = np.random.default_rng(0).normal(10, 2, 400)
    low, high = interval(values, np.arange(400))
    error = values.std() / math.sqrt(400)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_repeating_each_patients_studies_does_not_narrow_the_interval() -> None:
    values = np.random.default_rng(1).normal(0, 1, 30)
    patients = np.array([f"patient-{i:02d}" for i in range(30)])
    once = interval(values, patients)
    five_times = interval(np.tile(values, 5), np.tile(patients, 5))
    assert five_times == pytest.approx(once)
    # Taken for independent, the copies would narrow it by the root of five.
    naive = interval(np.tile(values, 5), np.arange(150))
    assert naive[1] - naive[0] < 0.6 * (once[1] - once[0])


def test_order_of_the_rows_does_not_matter() -> None:
    values = np.random.default_rng(2).normal(0, 1, 12)
    patients = np.array(list("aabbccddeeff"))
    order = np.random.default_rng(3).permutation(12)
    assert interval(values[order], patients[order]) == pytest.approx(interval(values, patients))


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_patients_have_no_interval(count: int) -> None:
    low, high = interval(np.full(3 * count, 0.5), np.full(3 * count, "only"))
    assert math.isnan(low)
    assert math.isnan(high)


def test_two_patients_span_their_values() -> None:
    """Drawn with replacement, the mean of two patients is a, (a + b) / 2 or b."""
    assert interval(np.array([0.2, 0.8]), np.array(["a", "b"])) == pytest.approx((0.2, 0.8))


def test_ratio_is_pooled_and_survives_draws_without_a_denominator() -> None:
    found, lesions = np.array([1.0, 0.0, 0.0]), np.array([2.0, 0.0, 0.0])
    low, high = clustered_bootstrap_ratio(
        found, lesions, np.array(["a", "b", "c"]), 500, 0.95, np.random.default_rng(0)
    )
    assert (low, high) == (0.5, 0.5)


def test_ratio_without_any_denominator_is_undefined() -> None:
    low, high = clustered_bootstrap_ratio(
        np.zeros(3), np.zeros(3), np.arange(3), 100, 0.95, np.random.default_rng(0)
    )
    assert math.isnan(low)
    assert math.isnan(high)


def test_sums_per_patient_are_in_the_order_of_their_names() -> None:
    columns = np.array([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]])
    assert sum_clusters(columns, np.array(["b", "a", "b"])).tolist() == [[2, 20], [5, 50]]


def test_a_resample_takes_all_studies_of_a_patient() -> None:
    """Patient a has one study of 1, patient b two of 10: 2, 21 or 40 in 2, 3 or 4 studies."""
    columns = np.array([[1.0, 1.0], [10.0, 1.0], [10.0, 1.0]])
    patients = np.array(["a", "b", "b"])
    totals = resample_totals(columns, patients, 100, np.random.default_rng(0))
    assert {tuple(row) for row in totals.tolist()} == {(2.0, 2.0), (21.0, 3.0), (40.0, 4.0)}
    means = resample_means(columns[:, :1], patients, 100, np.random.default_rng(0))
    assert means[:, 0].tolist() == (totals[:, 0] / totals[:, 1]).tolist()


def test_columns_share_their_resamples() -> None:
    values = np.random.default_rng(4).normal(0, 1, 9)
    means = resample_means(
        np.column_stack([values, 2 * values]), np.arange(9), 50, np.random.default_rng(0)
    )
    assert means[:, 1] == pytest.approx(2 * means[:, 0])


@pytest.mark.parametrize(("patients", "quantile"), [(5, 2.776445), (20, 2.093024)])
def test_normal_resamples_give_students_interval(patients: int, quantile: float) -> None:
    """Resampled means have the variance s^2 (n - 1) / n^2: then it is mean -+ t s / sqrt(n)."""
    spread = math.sqrt((patients - 1) / patients) / math.sqrt(patients)
    resampled = np.random.default_rng(0).normal(0, spread, (400_000, 1))
    low, high = percentile_interval(resampled, patients, 0.95)
    expected = quantile / math.sqrt(patients)
    assert high[0] == pytest.approx(expected, rel=0.02)
    assert low[0] == pytest.approx(-expected, rel=0.02)


def test_undefined_resamples_are_left_out() -> None:
    resampled = np.column_stack([[1.0, np.nan, 3.0], [np.nan] * 3])
    low, high = percentile_interval(resampled, 2, 0.95)
    assert (low[0], high[0]) == pytest.approx((1.0, 3.0))
    assert math.isnan(low[1])
    assert math.isnan(high[1])


def test_a_share_of_nothing_is_undefined() -> None:
    shares = divide(np.array([1.0, 1.0, 0.0]), np.array([4.0, 0.0, 0.0]))
    assert shares.tolist() == pytest.approx([0.25, math.nan, math.nan], nan_ok=True)
