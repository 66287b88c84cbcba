"""p-values that can be counted on one hand, and corrections worked out on paper."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from petct.paired_tests import (
    adjust_holm,
    detectable_difference,
    sign_flip_test,
    smallest_p,
)


def p_of(differences: list[float], patients: list[str], permutations: int = 1000) -> float:
    column = np.array(differences)[:, None]
    rng = np.random.default_rng(0)
    return float(sign_flip_test(column, np.array(patients), permutations, rng)[0])


def test_three_patients_by_hand() -> None:
    """The flips of 1, 2 and 4 have the sums +-7, +-5, +-3 and +-1."""
    assert p_of([1, 2, 4], ["a", "b", "c"]) == 2 / 8
    # Observed 3: six sums are as far out.
    assert p_of([1, -2, 4], ["a", "b", "c"]) == 6 / 8
    assert p_of([1, 2, -4], ["a", "b", "c"]) == 1.0


def test_studies_of_a_patient_flip_together() -> None:
    """Six studies of three patients are three coins, not six."""
    assert p_of([1, 1, 2, 2, 4, 4], list("aabbcc")) == 2 / 8
    assert p_of([1, 1, 2, 2, 4, 4], list("abcdef")) == 2 / 64
    # A patient's opposite differences cancel: two coins are left.
    assert p_of([5, -5, 1, 1, 2, 2], list("aabbcc")) == 4 / 8


def test_ties_count_although_their_sums_differ_in_the_last_digit() -> None:
    """0.1 + 0.2 and 0.3 are the same difference: flips of one against the other tie."""
    assert p_of([0.1, 0.2, 0.3], ["a", "b", "c"]) == 2 / 8
    # |0.1 + 0.2 - 0.3| = 0 is exceeded by everything.
    assert p_of([0.1, 0.2, -0.3], ["a", "b", "c"]) == 1.0


def test_no_difference_gives_1_and_no_study_nothing() -> None:
    assert p_of([0.0, 0.0], ["a", "b"]) == 1.0
    assert math.isnan(p_of([], []))


def test_one_patient_can_show_nothing() -> None:
    assert p_of([1.0, 2.0], ["a", "a"]) == 1.0


def test_exact_and_drawn_flips_agree_and_columns_are_tested_alike() -> None:
    rng = np.random.default_rng(2)
    differences = rng.normal(0.4, 1, (10, 5))
    patients = np.arange(10)
    exact = sign_flip_test(differences, patients, 512, rng)
    drawn = sign_flip_test(differences, patients, 511, np.random.default_rng(0))
    # 512 of the 1024 flips differ; one fewer are allowed, so 511 are drawn.
    assert (exact * 512 == np.round(exact * 512)).all()
    assert (drawn * 512 == np.round(drawn * 512)).all()
    many = sign_flip_test(differences[np.repeat(np.arange(10), 2)], np.arange(20) // 2, 512, rng)
    assert many == pytest.approx(exact)
    assert drawn == pytest.approx(exact, abs=0.08)
    for column in range(5):
        alone = sign_flip_test(differences[:, [column]], patients, 512, rng)
        assert alone == exact[[column]]


def test_agrees_with_scipys_permutation_test() -> None:
    differences = np.random.default_rng(3).normal(0.5, 1, 9)
    result = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    p = sign_flip_test(differences[:, None], np.arange(9), 1000, np.random.default_rng(0))
    assert p[0] == pytest.approx(result.pvalue)


def test_drawn_p_is_never_0_and_repeats_itself() -> None:
    certain = np.ones((40, 1))
    first, second = (
        sign_flip_test(certain, np.arange(40), 999, np.random.default_rng(1)) for _ in range(2)
    )
    assert first[0] == second[0] == 1 / 1000


@pytest.mark.parametrize(
    ("patients", "expected"), [(0, 1.0), (1, 1.0), (2, 0.5), (5, 0.0625), (6, 0.03125)]
)
def test_smallest_p_by_the_number_of_patients(patients: int, expected: float) -> None:
    """2 / 2^n: with five patients nothing falls below 0.05, however large the difference."""
    assert smallest_p(patients, 1000) == expected
    if patients:
        assert p_of([1.0] * patients, list("abcdef")[:patients]) == expected


def test_smallest_p_of_drawn_flips() -> None:
    assert smallest_p(40, 999) == 1 / 1000


def test_holm_on_a_worked_example() -> None:
    """0.01 x 4, 0.02 x 3, 0.03 x 2 and 0.04 x 1; none below one before it: 0.06, 0.06, 0.06."""
    p = np.array([0.04, 0.01, 0.03, 0.02])
    assert adjust_holm(p) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert adjust_holm(np.array([0.6, 0.5])) == pytest.approx([1.0, 1.0])
    assert adjust_holm(np.array([0.02])) == [0.02]
    assert adjust_holm(np.array([])).size == 0


def test_holm_is_never_below_benjamini_hochberg_nor_above_bonferroni() -> None:
    p = np.random.default_rng(0).uniform(0, 0.1, 30)
    adjusted = adjust_holm(p)
    assert (adjusted >= stats.false_discovery_control(p) - 1e-12).all()
    assert (adjusted <= np.minimum(30 * p, 1) + 1e-12).all()


def test_detectable_difference_from_the_intervals_width() -> None:
    """An interval of +-1.96 standard errors: found with 50 % power at 1.96, with 80 % at 2.80."""
    low, high = np.array([-1.959964, 0.0]), np.array([1.959964, 2 * 1.959964])
    assert detectable_difference(low, high, 0.95, 0.8) == pytest.approx([2.801585] * 2)
    assert detectable_difference(low, high, 0.95, 0.5) == pytest.approx([1.959964] * 2)


def test_no_spread_makes_nothing_detectable() -> None:
    same, unknown = np.array([0.0, np.nan]), np.array([0.0, np.nan])
    assert np.isnan(detectable_difference(same, unknown, 0.95, 0.8)).all()
