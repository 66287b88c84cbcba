"""The peers' metrics are ours, and noise is what it says."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark_metrics import (
    add_false_lesions,
    score_with_cropped_monai,
    score_with_loop,
    score_with_monai,
    score_with_ours,
)

SPACING_ZYX_MM = (3.0, 2.0, 2.0)


def test_peers_have_our_values() -> None:
    reference = np.zeros((20, 24, 28), bool)
    reference[2:6, 2:6, 2:6] = reference[12:15, 12:15, 12:15] = True
    predicted = np.zeros_like(reference)
    # One lesion moved by a voxel, one missed, one of eight voxels false, at the array's edge.
    predicted[3:7, 2:6, 2:6] = predicted[18:20, 22:24, 26:28] = True
    settings = {"connectivity": 18, "surface_tolerance_mm": 3.0}
    suv = np.ones(reference.shape, np.float32)
    _, ours = score_with_ours(predicted, reference, suv, SPACING_ZYX_MM, settings)
    assert ours["fp_volume_ml"] == pytest.approx(8 * 0.012)
    assert ours["fn_volume_ml"] == pytest.approx(27 * 0.012)
    _, loop = score_with_loop(predicted, reference, SPACING_ZYX_MM)
    assert loop == {name: pytest.approx(ours[name]) for name in loop}
    for peer in (score_with_monai, score_with_cropped_monai):
        _, theirs = peer(predicted, reference, SPACING_ZYX_MM, 3.0)
        assert theirs == {name: pytest.approx(ours[name], rel=1e-5) for name in theirs}


def test_false_lesions_repeat_and_lie_in_the_body() -> None:
    mask = np.zeros((16, 16, 16), bool)
    body = np.zeros_like(mask)
    body[4:8, 4:8, 4:8] = True
    noisy = add_false_lesions(mask, body, 3, seed=1)
    assert not mask.any()
    assert np.array_equal(noisy, add_false_lesions(mask, body, 3, seed=1))
    # Boxes start in the body and are four voxels long at most.
    assert 3 <= noisy.sum() <= 3 * 64 and not noisy[:4].any() and not noisy[12:].any()
