"""Intervals whose width is known: from constants, from a formula, from a simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from petct.statistics import clustered_bootstrap, clustered_bootstrap_ratio


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


def test_covers_the_truth_about_as_often_as_it_says() -> None:
    """80 patients of two studies that share a patient effect, 200 times over."""
    rng = np.random.default_rng(11)
    patients = np.repeat(np.arange(80), 2)
    covered = 0
    for _ in range(200):
        values = np.repeat(rng.normal(0, 1, 80), 2) + rng.normal(0, 0.5, 160)
        low, high = clustered_bootstrap(values, patients, 400, 0.95, rng)
        covered += low <= 0.0 <= high
    assert 0.90 <= covered / 200 <= 0.99
