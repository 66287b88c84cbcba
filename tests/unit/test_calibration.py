"""Calibration of probabilities whose error is known: counted by hand, or simulated."""

from __future__ import annotations

import math

import numpy as np
import pytest

from petct.calibration import (
    bin_probabilities,
    bootstrap_calibration_error,
    calibration_error,
    find_body,
)
from petct.errors import PetctError


def test_the_body_is_what_is_dense_and_what_it_encloses_in_a_slice() -> None:
    ct = np.full((4, 7, 8), -1.0, np.float16)
    ct[:, 1:6, 1:6] = 0.1
    # A lung through all slices, open above and below; and a notch open to the side of one slice.
    ct[:, 3, 3] = -0.8
    ct[1, 3, 4:6] = -0.8
    expected = np.zeros(ct.shape, bool)
    expected[:, 1:6, 1:6] = True
    # Through the notch, this slice's lung is open to the outside.
    expected[1, 3, 3:6] = False
    assert np.array_equal(find_body(ct, -0.5), expected)


def test_bins_by_hand() -> None:
    probability = np.array([0.0, 0.1, 0.25, 0.3, 0.74, 0.75, 1.0])
    lesion = np.array([False, True, False, True, False, True, True])
    voxels, sums, lesions = bin_probabilities(probability, lesion, 4)
    assert voxels.tolist() == [2, 2, 1, 2]
    assert sums == pytest.approx([0.1, 0.55, 0.74, 1.75])
    assert lesions.tolist() == [1, 1, 0, 2]
    excess = sums - lesions
    # |-0.9| + |-0.45| + 0.74 + |-0.25| of 7 voxels.
    assert calibration_error(excess, voxels) == pytest.approx(2.34 / 7)
    assert calibration_error(excess[1:], voxels[1:]) == pytest.approx(1.44 / 5)


def test_no_voxels_have_no_error() -> None:
    voxels, sums, lesions = bin_probabilities(np.zeros(0, np.float16), np.zeros(0, bool), 5)
    assert (voxels.sum(), sums.sum(), lesions.sum()) == (0, 0, 0)
    assert math.isnan(calibration_error(sums - lesions, voxels))


@pytest.mark.parametrize("wrong", [-0.01, 1.01, math.nan, math.inf])
def test_what_is_no_probability_is_refused(wrong: float) -> None:
    with pytest.raises(
        PetctError, match=r"got .* as the probability .*\(1 such\), expected 0 to 1"
    ):
        bin_probabilities(np.array([0.5, wrong]), np.zeros(2, bool), 10)


def test_the_error_of_simulated_networks() -> None:
    """Of voxels given p, uniformly, p are lesion in one network and p² in another.

    The error of the second is the mean of p - p², 1/2 - 1/3.
    """
    rng = np.random.default_rng(5)
    probability = rng.random(400_000)
    errors = []
    for share in (probability, probability**2):
        lesion = rng.random(len(share)) < share
        voxels, sums, lesions = bin_probabilities(probability, lesion, 20)
        errors.append(float(calibration_error(sums - lesions, voxels)))
    assert errors[0] < 0.005
    assert errors[1] == pytest.approx(1 / 6, abs=0.005)


def test_intervals() -> None:
    voxels = np.full((40, 2), 10.0)
    alike = np.tile([2.0, -1.0], (40, 1))
    low, high = bootstrap_calibration_error(alike, voxels, 200, 0.95, np.random.default_rng(1))
    # Patients that are all alike: 3 of 20 voxels, however they are drawn.
    assert (low, high) == pytest.approx((0.15, 0.15))
    unlike = alike.copy()
    unlike[:20] = [6.0, -1.0]
    low, high = bootstrap_calibration_error(unlike, voxels, 500, 0.95, np.random.default_rng(1))
    # Errors of 7 / 20 and 3 / 20, half each: 0.25, with a standard deviation of 0.1.
    assert low == pytest.approx(0.25 - 1.96 * 0.1 / math.sqrt(40), abs=0.008)
    assert high == pytest.approx(0.25 + 1.96 * 0.1 / math.sqrt(40), abs=0.008)


def test_the_interval_of_one_patient_or_of_no_voxel_is_undefined() -> None:
    rng = np.random.default_rng(1)
    one = bootstrap_calibration_error(np.ones((1, 3)), np.full((1, 3), 2), 100, 0.95, rng)
    none = bootstrap_calibration_error(np.zeros((4, 3)), np.zeros((4, 3)), 100, 0.95, rng)
    assert all(map(math.isnan, (*one, *none)))
