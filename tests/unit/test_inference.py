"""Predictions: every window lands where it came from, and back on the native grid exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from array_studies import Box, fill
from petct.arrays import StudyArrays
from petct.grids import Grid
from petct.inference import predict_probability
from petct.patches import Source, open_source

GRID = Grid((13, 20, 17), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
WINDOW = (8, 8, 8)
NONE = np.zeros((0, 4), np.int32)
LOGITS = np.random.default_rng(0).normal(0, 2, (2, *GRID.shape_zyx)).astype(np.float16)
EXPECTED = 1 / (1 + np.exp(-LOGITS[0].astype(float)))


class FirstChannel(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, :1]


class Countdown(torch.nn.Module):
    """A logit of 2 in the first call, then 1, then 0."""

    def __init__(self) -> None:
        super().__init__()
        self.logit = 3.0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.logit -= 1.0
        return torch.full_like(images[:, :1], self.logit)


def make_source(boxes: list[Box] | None, window_zyx: tuple[int, int, int] = WINDOW) -> Source:
    label = np.zeros(GRID.shape_zyx, np.uint8)
    rows = None if boxes is None else np.array(boxes, int).reshape(-1, 6)
    return open_source(StudyArrays(LOGITS, label, NONE, NONE, GRID), rows, None, window_zyx)


def predict(
    source: Source,
    network: torch.nn.Module,
    overlap: float = 0.25,
    window_zyx: tuple[int, int, int] = WINDOW,
    windows_per_batch: int = 3,
) -> np.ndarray:
    cpu = torch.device("cpu")
    return predict_probability(
        network, source, window_zyx, overlap, windows_per_batch, torch.float32, cpu
    )


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.75])
@pytest.mark.parametrize("window_zyx", [(8, 8, 8), (13, 7, 5)])
def test_windows_cover_a_study_without_seams(
    overlap: float, window_zyx: tuple[int, int, int]
) -> None:
    found = predict(make_source(None), FirstChannel(), overlap, window_zyx)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, EXPECTED, atol=1e-5)


def test_a_study_smaller_than_the_window_is_cut_out_of_its_padding() -> None:
    source = make_source(None, (16, 24, 17))
    found = predict(source, FirstChannel(), window_zyx=(16, 24, 17))
    # 3 planes are missing along z: 1 before, 2 after; 4 rows along y: 2 and 2.
    np.testing.assert_allclose(found, EXPECTED, atol=1e-5)
    assert source.study_grid == GRID
    assert source.grid.locate_index((1, 2, 0)) == GRID.origin_xyz_mm


def test_boxes_hold_the_prediction_and_nothing_is_outside() -> None:
    boxes: list[Box] = [
        (0, 0, 0, 2, 3, 4),  # smaller than a window, in a corner
        (11, 18, 3, 13, 20, 5),
        (2, 4, 5, 13, 14, 17),  # larger than a window
        (0, 8, 6, 4, 10, 12),  # overlaps the one before
    ]
    found = predict(make_source(boxes), FirstChannel())
    inside = fill(GRID.shape_zyx, *boxes) > 0
    np.testing.assert_allclose(found[inside], EXPECTED[inside], atol=1e-5)
    assert not found[~inside].any()


def test_where_boxes_overlap_the_higher_probability_stands() -> None:
    found = predict(make_source([(0, 0, 0, 4, 4, 4), (2, 2, 2, 6, 6, 6)]), Countdown())
    sigmoid = {logit: 1 / (1 + np.exp(-logit)) for logit in (1.0, 2.0)}
    assert found[0, 0, 0] == pytest.approx(sigmoid[2.0])
    assert found[3, 3, 3] == pytest.approx(sigmoid[2.0])
    assert found[5, 5, 5] == pytest.approx(sigmoid[1.0])
    assert found[7, 7, 7] == 0


def test_without_boxes_there_is_no_lesion() -> None:
    assert not predict(make_source([]), FirstChannel()).any()
