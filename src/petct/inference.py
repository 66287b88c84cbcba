"""Running a trained network over a study: windows side by side, batched, weighed where they meet.

One engine for every network. Windows lie as nnU-Net lays them, evenly and touching both ends, and
weigh as they do there, by a Gaussian. Windows of air are not sought out and left out: around a
body every window holds some of it, and the training format holds little else.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from petct.boxes import count_windows, group_boxes
from petct.grids import Index
from petct.normalisation import replace_normalisations
from petct.patches import Source, cut_window, stack_images

Item = TypeVar("Item")


@dataclass(frozen=True)
class Windows:
    """How a network is led over an image.

    ``overlap`` is the share of a window that its neighbour sees too, at least. Logits are averaged
    over all reflections along ``mirrored_axes`` (0 z, 1 y, 2 x).
    """

    size_zyx: Index
    overlap: float
    mirrored_axes: tuple[int, ...]
    per_batch: int
    precision: torch.dtype


@dataclass(frozen=True)
class Part:
    """A stretch of a study that a network looks at.

    ``image`` (C, Z, Y, X) starts at voxel ``start_zyx`` of the study's grid. ``boxes_zyx``, rows of
    start and stop on that grid, are what was asked for; the rest is context.
    """

    image: torch.Tensor
    start_zyx: Index
    boxes_zyx: np.ndarray


def read_parts(source: Source, windows: Windows) -> list[Part]:
    """What a network reads of a study: its boxes, at least a window large.

    Boxes that take no more windows together than apart are read as one.
    """
    groups = group_boxes(source.boxes_zyx, windows.size_zyx, source.grid.shape_zyx, windows.overlap)
    return [
        Part(stack_images(cut_window(source, start, shape)), start, boxes)
        for start, shape, boxes in groups
    ]


def predict_probability(
    network: torch.nn.Module,
    parts: list[Part],
    source: Source,
    windows: Windows,
    device: torch.device,
) -> np.ndarray:
    """Lesion probability (Z, Y, X) float32 on the study's own grid; 0 outside the parts' boxes.

    The network gives one logit a voxel. Where boxes overlap, the higher probability stands.
    """
    logits = predict_logits(network, [part.image for part in parts], windows, device)
    probability = np.zeros(source.grid.shape_zyx, np.float32)
    for part, found in zip(parts, logits, strict=True):
        part_probability = torch.sigmoid(found).cpu().numpy()
        paste_probability(probability, part.boxes_zyx, part.start_zyx, part_probability)
    own = zip(source.padding_zyx, source.study_grid.shape_zyx, strict=True)
    return probability[tuple(slice(before, before + size) for before, size in own)]


def paste_probability(
    probability: np.ndarray, boxes_zyx: np.ndarray, start_zyx: Index, found: np.ndarray
) -> None:
    """Put what was ``found`` (Z, Y, X), from ``start_zyx`` on, into the boxes where it is higher.

    The context around a box helps to see it, but the box says where to look.
    """
    for box in boxes_zyx:
        inside = tuple(slice(box[a], box[a + 3]) for a in range(3))
        local = tuple(slice(box[a] - start_zyx[a], box[a + 3] - start_zyx[a]) for a in range(3))
        np.maximum(probability[inside], found[local], out=probability[inside])


def predict_logits(
    network: torch.nn.Module, images: list[torch.Tensor], windows: Windows, device: torch.device
) -> list[torch.Tensor]:
    """The mean of the windows' logits, (Z, Y, X) float32 on ``device``, of each image (C, Z, Y, X).

    The network gives one logit a voxel. A batch takes windows of several images. Images are at
    least a window large.
    """
    size = windows.size_zyx
    weight = weigh_window(size).to(device)
    placed = [image.to(device, torch.float32) for image in images]
    places = [
        (number, tuple(slice(a, a + n) for a, n in zip(start, size, strict=True)))
        for number, image in enumerate(placed)
        for start in place_windows(image.shape[1:], size, windows.overlap)
    ]
    sums = [torch.zeros(image.shape[1:], device=device) for image in placed]
    autocast = torch.autocast(
        device.type, windows.precision, enabled=windows.precision != torch.float32
    )
    with torch.inference_mode(), autocast:
        for batch in split_evenly(places, windows.per_batch):
            cut = [placed[number][(slice(None), *window)] for number, window in batch]
            logits = _average_reflections(network, _stack(cut), windows.mirrored_axes)
            for (number, window), found in zip(batch, logits, strict=False):
                sums[number][window] += weight * found[0]
    return [
        total.div_(weigh_image(total.shape, size, windows.overlap).to(device)) for total in sums
    ]


def _stack(images: list[torch.Tensor]) -> torch.Tensor:
    """A batch in the layout that its device computes in.

    PyTorch convolves a CPU batch of one by a slow path: there a single image goes in twice.
    """
    if images[0].device.type != "cpu":
        return torch.stack(images)
    images = images * 2 if len(images) == 1 else images
    return torch.stack(images).contiguous(memory_format=torch.channels_last_3d)


def _average_reflections(
    network: torch.nn.Module, images: torch.Tensor, axes: tuple[int, ...]
) -> torch.Tensor:
    """The network's logits (N, 1, Z, Y, X) float32, averaged over the images' reflections."""
    logits: torch.Tensor = network(images).float()
    reflections = [
        [axis + 2 for axis in chosen]
        for number in range(1, len(axes) + 1)
        for chosen in itertools.combinations(axes, number)
    ]
    for flipped in reflections:
        logits = logits + torch.flip(network(torch.flip(images, flipped)).float(), flipped)
    return logits / (len(reflections) + 1)


def hasten_network(network: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    """The network in evaluation on ``device``, arranged for it; its results differ by rounding.

    A CPU convolves with channels last, and PyTorch normalises instances in that layout only as
    groups of one channel: together half the time.
    """
    network.to(device).eval()
    if device.type == "cpu":
        replace_normalisations(network, _normalise_groups)
        network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return network


def _normalise_groups(norm: torch.nn.InstanceNorm3d) -> torch.nn.Module:
    """Group normalisation with a group per channel: what instance normalisation is."""
    channels = norm.num_features
    grouped = torch.nn.GroupNorm(channels, channels, norm.eps, norm.affine)
    grouped.load_state_dict(norm.state_dict())
    return grouped.eval()


def place_windows(shape_zyx: Iterable[int], size_zyx: Index, overlap: float) -> list[Index]:
    """Where windows start that cover an image, at even steps of at most size x (1 - overlap)."""
    starts = [place_along(n, size, overlap) for n, size in zip(shape_zyx, size_zyx, strict=True)]
    return [(z, y, x) for z, y, x in itertools.product(*starts)]


def place_along(length: int, size: int, overlap: float) -> list[int]:
    """Where windows start along one axis."""
    windows = count_windows(length, size, overlap)
    return [round((length - size) * n / max(windows - 1, 1)) for n in range(windows)]


def weigh_along(size: int) -> torch.Tensor:
    """A window's weight along one axis: a Gaussian of an eighth of its size, 1 in the middle."""
    distance = (torch.arange(size) - size // 2) / (size / 8)
    return torch.exp(-(distance**2) / 2)


def weigh_window(size_zyx: Index) -> torch.Tensor:
    z, y, x = (weigh_along(size) for size in size_zyx)
    return z[:, None, None] * y[:, None] * x


def weigh_image(shape_zyx: Iterable[int], size_zyx: Index, overlap: float) -> torch.Tensor:
    """The sum of all windows' weights at each voxel of an image (Z, Y, X)."""
    sums = []
    for length, size in zip(shape_zyx, size_zyx, strict=True):
        along = torch.zeros(length)
        for start in place_along(length, size, overlap):
            along[start : start + size] += weigh_along(size)
        sums.append(along)
    z, y, x = sums
    return z[:, None, None] * y[:, None] * x


def split_evenly(items: list[Item], at_most: int) -> Iterator[list[Item]]:
    """Batches of nearly one size: no small one is left over."""
    batches = -(-len(items) // at_most)
    for number in range(batches):
        yield items[len(items) * number // batches : len(items) * (number + 1) // batches]
