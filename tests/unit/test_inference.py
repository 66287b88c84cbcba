"""Predictions: every window lands where it came from, and back on the native grid exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.networks.nets.unet import UNet
from nnunetv2.inference.sliding_window_prediction import (
    compute_gaussian,
    compute_steps_for_sliding_window,
)

from array_studies import Box, fill
from petct.arrays import StudyArrays
from petct.grids import Grid
from petct.inference import (
    Windows,
    hasten_network,
    paste_probability,
    place_along,
    predict_logits,
    predict_probability,
    read_parts,
    split_evenly,
    weigh_window,
)
from petct.patches import Source, open_source

CPU = torch.device("cpu")
GRID = Grid((13, 20, 17), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
WINDOW = (8, 8, 8)
NONE = np.zeros((0, 4), np.int32)
LOGITS = np.random.default_rng(0).normal(0, 2, (2, *GRID.shape_zyx)).astype(np.float16)
EXPECTED = 1 / (1 + np.exp(-LOGITS[0].astype(float)))


class FirstChannel(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, :1]


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
    mirrored_axes: tuple[int, ...] = (),
) -> np.ndarray:
    windows = Windows(window_zyx, overlap, mirrored_axes, windows_per_batch, torch.float32)
    parts = read_parts(source, windows)
    return predict_probability(network, parts, source, windows, CPU)


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
    found = np.array([0.0, 0.5, 0.9], np.float32)[:, None, None]
    probability = np.array([0.6, 0.6, 0.6, 0.0], np.float32)[:, None, None]
    # What was found starts at plane 1; the box ends before its last plane.
    paste_probability(probability, np.array([[1, 0, 0, 3, 1, 1]]), (1, 0, 0), found)
    np.testing.assert_allclose(probability[:, 0, 0], [0.6, 0.6, 0.6, 0.0])
    paste_probability(probability, np.array([[1, 0, 0, 4, 1, 1]]), (1, 0, 0), found)
    np.testing.assert_allclose(probability[:, 0, 0], [0.6, 0.6, 0.6, 0.9])


def test_without_boxes_there_is_no_lesion() -> None:
    assert not predict(make_source([]), FirstChannel()).any()


class Place(torch.nn.Module):
    """Each window's own number, in the order of the calls, wherever it lies; keeps batch sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(images))
        return images[:, :1] * 0 + images[:, :1, :1, :1, :1]


def test_windows_weigh_by_their_distance_as_in_nnunet() -> None:
    """Two windows of 8 over 12 voxels, at 0 and 4; each gives the value of its first voxel."""
    image = torch.zeros(1, 12, 8, 8)
    image[0, 4] = 1.0
    (found,) = predict_logits(Place(), [image], Windows((8, 8, 8), 0.5, (), 4, torch.float32), CPU)
    # Voxel 5 lies 1 from the centre of the first (4) and 3 from that of the second (8): sigma 1.
    first, second = np.exp(-0.5), np.exp(-4.5)
    expected = [0, 0, 0, 0, None, second / (first + second), None, None, 1, 1, 1, 1]
    for index, value in enumerate(expected):
        if value is not None:
            assert found[index, 3, 3] == pytest.approx(value, abs=1e-6)
    ours = weigh_window((8, 12, 16))
    theirs = compute_gaussian((8, 12, 16), dtype=torch.float32, device=CPU)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("length", "overlap", "starts"),
    [
        (8, 0.5, [0]),
        (9, 0.5, [0, 1]),
        (12, 0.5, [0, 4]),
        (13, 0.5, [0, 2, 5]),  # 2.5 apart
        (24, 0.0, [0, 8, 16]),
        (20, 0.25, [0, 6, 12]),
    ],
)
def test_windows_lie_as_in_nnunet(length: int, overlap: float, starts: list[int]) -> None:
    assert place_along(length, 8, overlap) == starts
    assert compute_steps_for_sliding_window((length,), (8,), 1 - overlap) == [starts]


def test_a_batch_takes_windows_of_several_images_and_on_a_cpu_never_one_alone() -> None:
    network = Place()
    images = [torch.full((1, 8, 8, n), float(n)) for n in (8, 16, 8)]
    windows = Windows((8, 8, 8), 0.0, (), 4, torch.float32)
    for image, found in zip(images, predict_logits(network, images, windows, CPU), strict=True):
        torch.testing.assert_close(found, image[0])
    predict_logits(network, images[:1], windows, CPU)
    assert network.batches == [4, 2]
    assert [len(batch) for batch in split_evenly(list(range(9)), 4)] == [3, 3, 3]


def test_reflections_are_turned_back_and_averaged() -> None:
    """A network that adds a ramp along x: its mean over both directions adds a constant."""

    class Ramp(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images[:, :1] + torch.arange(8.0)

    image = torch.from_numpy(LOGITS[:1, :8, :8, :8]).float()
    windows = Windows((8, 8, 8), 0.0, (2,), 2, torch.float32)
    (found,) = predict_logits(Ramp(), [image], windows, CPU)
    torch.testing.assert_close(found, image[0] + 3.5)
    windows = Windows((8, 8, 8), 0.0, (0, 1, 2), 2, torch.float32)
    (found,) = predict_logits(Ramp(), [image], windows, CPU)
    torch.testing.assert_close(found, image[0] + 3.5)


def test_a_hastened_network_gives_the_same() -> None:
    torch.manual_seed(0)
    for norm in ("INSTANCE", ("INSTANCE", {"affine": True})):
        network = UNet(3, 2, 1, (4, 8), (2,), num_res_units=1, norm=norm).eval()
        images = torch.randn(2, 2, 8, 8, 8)
        with torch.inference_mode():
            expected = network(images)
            found = hasten_network(network, CPU)(images)
        assert not any(isinstance(m, torch.nn.InstanceNorm3d) for m in network.modules())
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
