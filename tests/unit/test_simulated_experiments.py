"""Experiments simulated with a known difference and with none: how often the statistics are right.

Dice as it is: between 0 and 1, patients that all networks find hard or easy, several studies of
some patients, now and then a failure. All studies are simulated, and tested, at once.
"""

from __future__ import annotations

import numpy as np
import pytest

from petct.paired_tests import adjust_holm, detectable_difference, sign_flip_test
from petct.statistics import percentile_interval, resample_means

ALPHA = 0.05
# 19 patients; five have two studies, two have three: 28 studies.
PATIENTS = np.repeat(np.arange(19), [3] * 2 + [2] * 5 + [1] * 12)


def simulate_pairs(
    clusters: np.ndarray, gain: float, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Differences in Dice of ``count`` pairs of experiments: (studies, count).

    The first of each pair has ``gain`` more, before failures and limits to 0 and 1. ``clusters``
    names each study's patient.
    """
    names, members = np.unique(clusters, return_inverse=True)
    ease = rng.beta(4, 2, (len(names), count))[members]

    def score(better: float) -> np.ndarray:
        # How a network takes to a patient holds for all studies of the patient.
        taste = rng.standard_t(3, (len(names), count))[members] * 0.04
        noise = rng.standard_t(3, (len(clusters), count)) * 0.03
        dice = np.clip(ease + taste + noise + better, 0, 1)
        return np.where(rng.random(dice.shape) < 0.05, 0.0, dice)

    return score(gain) - score(0.0)


def test_no_difference_is_found_at_the_stated_rate() -> None:
    """1000 studies: 50 false findings expected, with a standard error of 7."""
    rng = np.random.default_rng(1)
    p = sign_flip_test(simulate_pairs(PATIENTS, 0.0, 1000, rng), PATIENTS, 1999, rng)
    assert 0.03 <= np.mean(p <= ALPHA) <= ALPHA + 0.02
    # Nor is any other level exceeded: p is uniform.
    assert np.mean(p <= 0.2) == pytest.approx(0.2, abs=0.04)
    assert np.mean(p <= 0.5) == pytest.approx(0.5, abs=0.05)


def test_few_patients_are_tested_exactly_and_at_the_stated_rate() -> None:
    rng = np.random.default_rng(2)
    patients = np.repeat(np.arange(7), 2)
    p = sign_flip_test(simulate_pairs(patients, 0.0, 2000, rng), patients, 1000, rng)
    assert np.mean(p <= ALPHA) <= ALPHA + 0.015
    assert p.min() >= 2 / 2**7


def test_a_known_difference_is_found() -> None:
    """A gain of 0.2, of which limits and failures leave 0.165, in four of five studies."""
    rng = np.random.default_rng(3)
    differences = simulate_pairs(PATIENTS, 0.2, 1000, rng)
    assert differences.mean() == pytest.approx(0.165, abs=0.01)
    p = sign_flip_test(differences, PATIENTS, 1999, rng)
    assert np.mean(p <= ALPHA) == pytest.approx(0.82, abs=0.04)


def test_a_difference_called_detectable_is_found_with_the_stated_power() -> None:
    """What the median of the studies says that it can see is seen by four in five."""
    rng = np.random.default_rng(4)
    without = simulate_pairs(PATIENTS, 0.0, 300, rng)
    low, high = percentile_interval(resample_means(without, PATIENTS, 1000, rng), 19, 0.95)
    visible = float(np.median(detectable_difference(low, high, 0.95, 0.8)))
    p = sign_flip_test(without + visible, PATIENTS, 1999, rng)
    assert np.mean(p <= ALPHA) == pytest.approx(0.8, abs=0.08)


def test_taking_studies_of_a_patient_for_independent_finds_what_is_not_there() -> None:
    """Why patients flip as a whole: eight patients of five studies each."""
    rng = np.random.default_rng(5)
    patients = np.repeat(np.arange(8), 5)
    differences = simulate_pairs(patients, 0.0, 1000, rng)
    clustered = sign_flip_test(differences, patients, 1999, rng)
    naive = sign_flip_test(differences, np.arange(40), 1999, rng)
    assert np.mean(clustered <= ALPHA) <= ALPHA + 0.02
    assert np.mean(naive <= ALPHA) >= 2 * ALPHA


@pytest.mark.parametrize(("count", "expected"), [(9, 0.927), (19, 0.932), (60, 0.941)])
def test_intervals_cover_the_truth_nearly_as_often_as_they_say(count: int, expected: float) -> None:
    """Of the mean difference, 0 by symmetry; with tails as heavy as these not quite 0.95.

    ``expected`` was measured in 8000 simulated studies; half the patients have two.
    """
    rng = np.random.default_rng(count)
    patients = np.concatenate([np.arange(count), np.arange(count // 2)])
    means = resample_means(simulate_pairs(patients, 0.0, 2000, rng), patients, 1000, rng)
    low, high = percentile_interval(means, count, 0.95)
    covered = np.mean((low <= 0) & (high >= 0))
    assert covered == pytest.approx(expected, abs=0.02)
    # The plain percentiles cover less; with nine patients far less.
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    plain = np.mean((low <= 0) & (high >= 0))
    assert plain <= covered - (0.04 if count == 9 else 0.0)


def test_intervals_cover_a_skewed_mean() -> None:
    """Dice itself: high for most patients, 0 for some."""
    rng = np.random.default_rng(6)
    ease = rng.beta(4, 2, (19, 1000))[PATIENTS]
    dice = np.where(rng.random(ease.shape) < 0.1, 0.0, ease)
    low, high = percentile_interval(resample_means(dice, PATIENTS, 1000, rng), 19, 0.95)
    truth = 0.9 * 4 / 6
    assert np.mean((low <= truth) & (truth <= high)) == pytest.approx(0.946, abs=0.02)


def test_holm_holds_the_familys_error_and_finds_what_is_there() -> None:
    """Families of ten comparisons of one study, two of them of a true difference."""
    rng = np.random.default_rng(7)
    families, tests = 400, 10
    differences = simulate_pairs(PATIENTS, 0.0, families * tests, rng)
    # The second half of each family shares an experiment: dependent tests.
    differences = differences.reshape(len(PATIENTS), families, tests)
    differences[:, :, 5:] = 0.5 * (differences[:, :, 5:] + differences[:, :, 4:5])
    differences[:, :, :2] += 0.2
    p = sign_flip_test(differences.reshape(len(PATIENTS), -1), PATIENTS, 1999, rng)
    p = p.reshape(families, tests)
    adjusted = np.array([adjust_holm(family) for family in p])
    false = (adjusted[:, 2:] <= ALPHA).any(axis=1)
    assert np.mean(false) <= ALPHA + 0.025
    # Uncorrected, a false finding would be the rule.
    assert np.mean((p[:, 2:] <= ALPHA).any(axis=1)) >= 0.2
    assert np.mean(adjusted[:, :2] <= ALPHA) >= 0.75
