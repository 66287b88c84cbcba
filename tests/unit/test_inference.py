"""Predictions: every window lands where it came from, and back on the native grid exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from array_studies import NATIVE, Box, fill
from petct.arrays import StudyArrays
from petct.boxes import widen_box
from petct.grids import Grid, interpolate, interpolation_matrices, restore_native
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


@pytest.mark.parametrize(
    ("box", "start", "shape"),
    [
        ((4, 4, 4, 6, 6, 6), (1, 1, 1), (8, 8, 8)),  # widened alike on both sides
        ((4, 4, 4, 7, 7, 7), (1, 1, 1), (8, 8, 8)),  # 5 missing: 3 before, 2 after
        ((0, 0, 0, 2, 2, 2), (0, 0, 0), (8, 8, 8)),  # moved in from below
        ((11, 18, 15, 13, 20, 17), (5, 12, 9), (8, 8, 8)),  # and from above
        ((1, 2, 3, 12, 14, 16), (1, 2, 3), (11, 12, 13)),  # large enough as it is
        ((0, 0, 0, 13, 20, 17), (0, 0, 0), (13, 20, 17)),
    ],
)
def test_a_box_is_widened_within_the_study(
    box: Box, start: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    assert widen_box(np.array(box), WINDOW, GRID.shape_zyx) == (start, shape)


def test_a_box_is_no_larger_than_the_study() -> None:
    assert widen_box(np.array([1, 1, 1, 3, 3, 3]), (8, 8, 8), (5, 9, 8)) == (
        (0, 0, 0),
        (5, 8, 8),
    )


# Back to the native grid.


def test_pasting_what_was_cut_is_the_identity() -> None:
    whole = np.random.default_rng(1).random(NATIVE.shape_zyx).astype(np.float32)
    start, stop = (3, 0, 7), (20, 30, 19)
    cut = NATIVE.cut(start, (17, 30, 12))
    restored = restore_native(whole[3:20, :, 7:19], cut, NATIVE, start, stop)
    np.testing.assert_allclose(restored[3:20, :, 7:19], whole[3:20, :, 7:19], atol=1e-6)
    restored[3:20, :, 7:19] = 0
    assert restored.shape == NATIVE.shape_zyx and not restored.any()


@pytest.mark.parametrize(
    ("spacing_zyx_mm", "within_mm"),
    [
        ((8.0, 8.0, 8.0), 1e-3),  # linear from a coarser grid: exact
        ((3.0, 3.0, 3.0), 0.3),  # averages of a finer one: nearly so
        ((7.0, 4.0, 3.3), 0.3),
    ],
)
def test_a_respaced_prediction_lands_on_the_native_voxels(
    spacing_zyx_mm: tuple[float, float, float], within_mm: float
) -> None:
    """A predicted voxel that holds its own position gives each native voxel its own back."""
    start, stop = (2, 5, 1), (24, 29, 27)
    grid = NATIVE.cut(start, (22, 24, 26)).respace(spacing_zyx_mm)
    z, y, x = np.indices(grid.shape_zyx)
    for axis in range(3):
        origin, step = grid.origin_xyz_mm[axis], np.array(grid.direction).reshape(3, 3)[axis]
        place = origin + (np.stack([x, y, z], -1) * grid.spacing_xyz_mm) @ step
        restored = restore_native(place, grid, NATIVE, start, stop)
        for index in ((6, 9, 5), (13, 17, 14), (19, 24, 22)):
            expected = NATIVE.locate_index(index)[axis]
            assert restored[index] == pytest.approx(expected, abs=within_mm)
    assert restored[1, 5, 1] == restored[2, 4, 1] == restored[24, 28, 26] == 0


@pytest.mark.parametrize("spacing_mm", [3.0, 4.0, 5.0])
def test_a_native_block_comes_back_where_it_was(spacing_mm: float) -> None:
    block = fill(NATIVE.shape_zyx, (8, 10, 12, 15, 19, 20))
    start, stop = (3, 4, 5), (25, 29, 27)
    cut = NATIVE.cut(start, (22, 25, 22))
    grid = cut.respace((spacing_mm, spacing_mm, spacing_mm))
    resampled = interpolate(block[3:25, 4:29, 5:27], interpolation_matrices(cut, grid))
    restored = restore_native(resampled, grid, NATIVE, start, stop) > 0.5
    # Within the rounding at its surface: inner voxels are all there, none lies a layer away.
    assert restored[9:14, 11:18, 13:19].all()
    assert not (restored & (fill(NATIVE.shape_zyx, (7, 9, 11, 16, 20, 21)) == 0)).any()
    centre = np.argwhere(restored).mean(axis=0)
    assert centre == pytest.approx([11.0, 14.0, 15.5], abs=0.5)
