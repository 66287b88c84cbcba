"""Random changes to training patches, defined in TorchIO's terms.

The config names TorchIO transforms and their arguments. Two engines carry them out: TorchIO's own,
one patch after the other, as the reference; and one that draws from the same distributions for a
whole batch in torch, on the device that trains, with a single interpolation for all spatial
transforms together (TorchIO resamples on the CPU, once for each).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
import torchio as tio

from petct.errors import PetctError
from petct.grids import Index
from petct.patches import image_of, stack_images

_SPATIAL = ("RandomFlip", "RandomAffine", "RandomElasticDeformation")
_INTENSITY = ("RandomNoise", "RandomGamma")
# Intensities change in CT and PET alone: a coarse probability must stay one.
_INTENSITY_CHANNELS = 2


@dataclass(frozen=True)
class Chance:
    """Random numbers for a batch of ``size`` patches, of which only the ``own`` are at hand.

    All are drawn and the own ones handed out, so that they do not hang on who holds the others.
    """

    generator: torch.Generator
    size: int
    own: slice

    def uniform(self, *shape: int) -> torch.Tensor:
        """(own patches, *shape) from 0 to 1."""
        return torch.rand((self.size, *shape), generator=self.generator)[self.own]

    def normal(self, *shape: int) -> torch.Tensor:
        """(own patches, *shape) of mean 0 and standard deviation 1."""
        return torch.randn((self.size, *shape), generator=self.generator)[self.own]


def window_to_read(patch_zyx: Index, definition: dict[str, dict[str, Any]]) -> Index:
    """How much to read for a patch, so that turning and shrinking it shows no empty corners."""
    if not {"RandomAffine", "RandomElasticDeformation"} & set(definition):
        return patch_zyx
    z, y, x = (2 * math.ceil(0.625 * n) for n in patch_zyx)
    return z, y, x


def augment_with_torchio(
    subjects: list[tio.Subject], patch_zyx: Index, definition: dict[str, dict[str, Any]], seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """TorchIO's own transforms, then each window's middle: (B, C, Z, Y, X), (B, 1, Z, Y, X)."""
    steps = []
    for name, arguments in definition.items():
        transform = getattr(tio, name, None)
        if transform is None:
            raise PetctError(f"training.augmentation: torchio has no transform {name!r}")
        steps.append(transform(**arguments, exclude=["prior"] if name in _INTENSITY else None))
    change = tio.Compose(steps)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        changed = [change(_as_float(subject)) for subject in subjects]
    images = torch.stack([stack_images(subject) for subject in changed])
    labels = torch.stack([image_of(subject, "label") for subject in changed])
    return _cut_middle(images, patch_zyx), _cut_middle(labels, patch_zyx)


def augment_with_torch(
    images: torch.Tensor,
    labels: torch.Tensor,
    spacing_zyx_mm: tuple[float, float, float],
    patch_zyx: Index,
    definition: dict[str, dict[str, Any]],
    generator: torch.Generator,
    batch: int | None = None,
    first: int = 0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same for a batch at once: windows (B, C, Z, Y, X) and labels (B, 1, Z, Y, X), float32.

    ``generator`` lives on the CPU, so that a run draws the same numbers on every device. The
    windows may be a share of a ``batch``, from its number ``first`` on.
    Spatial transforms come first, in one interpolation, then intensities in the config's order.
    """
    unknown = set(definition) - {*_SPATIAL, *_INTENSITY}
    if unknown:
        raise PetctError(
            f"training.augmentation: {', '.join(sorted(unknown))} runs with"
            " augmentation_engine torchio only; torch has " + ", ".join((*_SPATIAL, *_INTENSITY))
        )
    own = slice(first, first + len(images))
    chance = Chance(generator, len(images) if batch is None else batch, own)
    if set(definition) & set(_SPATIAL):
        points = _draw_points(images, spacing_zyx_mm, patch_zyx, definition, chance)
        sample = {"padding_mode": "border", "align_corners": True}
        images = functional.grid_sample(images, points, mode="bilinear", **sample)  # type: ignore[arg-type]
        labels = functional.grid_sample(labels, points, mode="nearest", **sample)  # type: ignore[arg-type]
    else:
        images, labels = _cut_middle(images, patch_zyx), _cut_middle(labels, patch_zyx)
    for name, arguments in definition.items():
        if name == "RandomNoise":
            images = _add_noise(images, arguments, chance)
        elif name == "RandomGamma":
            images = _change_gamma(images, arguments, chance)
    return images, labels


def _draw_points(
    images: torch.Tensor,
    spacing_zyx_mm: tuple[float, float, float],
    patch_zyx: Index,
    definition: dict[str, dict[str, Any]],
    chance: Chance,
) -> torch.Tensor:
    """Where each output voxel is read, (B, Z, Y, X, 3) as grid_sample wants it (x, y, z, ±1)."""
    batch, _, *read_zyx = images.shape
    spacing = torch.tensor(spacing_zyx_mm)
    axes = [torch.arange(n) - (n - 1) / 2 for n in patch_zyx]
    offsets = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    matrix = torch.eye(3).repeat(batch, 1, 1)
    shift_mm = torch.zeros(batch, 3)
    if "RandomAffine" in definition:
        matrix, shift_mm = _draw_affine(batch, definition["RandomAffine"], chance)
    if "RandomFlip" in definition:
        matrix = _draw_flip(batch, definition["RandomFlip"], chance) @ matrix
    # Turned and scaled in millimetres, then back to voxels.
    to_voxels = spacing[None, :, None] * matrix.transpose(1, 2) / spacing[None, None, :]
    points = offsets.reshape(1, -1, 3) @ to_voxels + (shift_mm / spacing)[:, None, :]
    points = points.reshape(batch, *patch_zyx, 3)
    if "RandomElasticDeformation" in definition:
        arguments = definition["RandomElasticDeformation"]
        points = points + _draw_elastic(batch, patch_zyx, arguments, chance) / spacing
    half = (torch.tensor(read_zyx) - 1) / 2
    return (points / half).flip(-1).to(images.device, images.dtype)


def _draw_affine(
    batch: int, arguments: dict[str, Any], chance: Chance
) -> tuple[torch.Tensor, torch.Tensor]:
    """Matrices (B, 3, 3) from output to input offsets in mm, and shifts (B, 3) in mm."""
    low, high = _bounds(arguments.get("scales", 0.1), around=1.0)
    scales = _uniform((3,), low, high, chance)
    if arguments.get("isotropic", False):
        scales = scales[:, :1].expand(batch, 3)
    low, high = _bounds(arguments.get("degrees", 10))
    angles = torch.deg2rad(_uniform((3,), low, high, chance))
    low, high = _bounds(arguments.get("translation", 0))
    shift_mm = _uniform((3,), low, high, chance)
    cosines, sines = angles.cos(), angles.sin()
    turn = torch.eye(3).repeat(batch, 1, 1)
    for axis, (a, b) in enumerate(((1, 2), (0, 2), (0, 1))):
        single = torch.eye(3).repeat(batch, 1, 1)
        single[:, a, a] = single[:, b, b] = cosines[:, axis]
        single[:, a, b], single[:, b, a] = -sines[:, axis], sines[:, axis]
        turn = turn @ single
    # Larger scales enlarge the content: an output offset reads closer to the centre.
    matrix = turn / scales[:, None, :]
    applied = _applied(arguments, chance)
    matrix = torch.where(applied[:, None, None], matrix, torch.eye(3))
    return matrix, torch.where(applied[:, None], shift_mm, torch.zeros(3))


def _draw_flip(batch: int, arguments: dict[str, Any], chance: Chance) -> torch.Tensor:
    """Diagonal matrices (B, 3, 3) of ±1."""
    axes = arguments.get("axes", 0)
    probability = arguments.get("flip_probability", 0.5)
    applied = _applied(arguments, chance)
    signs = torch.ones(batch, 3)
    for axis in [axes] if isinstance(axes, int) else axes:
        turned = (chance.uniform() < probability) & applied
        signs[turned, axis] = -1.0
    return torch.diag_embed(signs)


def _draw_elastic(
    batch: int, patch_zyx: Index, arguments: dict[str, Any], chance: Chance
) -> torch.Tensor:
    """Displacements (B, Z, Y, X, 3) in mm: random at control points, smooth between (B-splines)."""
    number = arguments.get("num_control_points", 7)
    limit_mm = arguments.get("max_displacement", 7.5)
    locked = arguments.get("locked_borders", 2)
    points = _uniform((3, number, number, number), -limit_mm, limit_mm, chance)
    for axis in (2, 3, 4):
        for border in range(locked):
            points.index_fill_(axis, torch.tensor([border, number - 1 - border]), 0.0)
    points[~_applied(arguments, chance)] = 0.0
    along_z, along_y, along_x = (_spline_matrix(n, number) for n in patch_zyx)
    field = torch.einsum("bcijk,zi,yj,xk->bczyx", points, along_z, along_y, along_x)
    return field.permute(0, 2, 3, 4, 1)


def _spline_matrix(size: int, control_points: int) -> torch.Tensor:
    """Cubic B-spline weights (size, control points) for points spread evenly over an axis."""
    position = torch.linspace(0, control_points - 1, size)[:, None]
    distance = (position - torch.arange(control_points)[None, :]).abs()
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = (2 - distance) ** 3 / 6
    return torch.where(distance < 1, near, torch.where(distance < 2, far, torch.zeros(())))


def _add_noise(images: torch.Tensor, arguments: dict[str, Any], chance: Chance) -> torch.Tensor:
    shape = images.shape[2:]
    low, high = _bounds(arguments.get("std", (0.0, 0.25)), lowest=0.0)
    std = _uniform((_INTENSITY_CHANNELS, 1, 1, 1), low, high, chance)
    low, high = _bounds(arguments.get("mean", 0.0), spread=False)
    mean = _uniform((_INTENSITY_CHANNELS, 1, 1, 1), low, high, chance)
    noise = chance.normal(_INTENSITY_CHANNELS, *shape) * std + mean
    noise = noise * _applied(arguments, chance)[:, None, None, None, None]
    changed = images.clone()
    changed[:, :_INTENSITY_CHANNELS] += noise.to(images.device)
    return changed


def _change_gamma(images: torch.Tensor, arguments: dict[str, Any], chance: Chance) -> torch.Tensor:
    """x to sign(x) |x|^gamma."""
    low, high = _bounds(arguments.get("log_gamma", 0.3))
    log_gamma = _uniform((_INTENSITY_CHANNELS, 1, 1, 1), low, high, chance)
    log_gamma = log_gamma * _applied(arguments, chance)[:, None, None, None, None]
    part = images[:, :_INTENSITY_CHANNELS]
    changed = images.clone()
    changed[:, :_INTENSITY_CHANNELS] = part.sign() * part.abs() ** log_gamma.exp().to(images.device)
    return changed


def _bounds(
    value: Any, around: float = 0.0, lowest: float = -math.inf, spread: bool = True
) -> tuple[float, float]:
    """TorchIO's ranges: a number n is (around - n, around + n), a pair is itself."""
    if isinstance(value, int | float):
        low = around - value if spread else value
        return max(low, lowest), around + value
    low, high = value
    return float(low), float(high)


def _uniform(shape: tuple[int, ...], low: float, high: float, chance: Chance) -> torch.Tensor:
    return chance.uniform(*shape) * (high - low) + low


def _applied(arguments: dict[str, Any], chance: Chance) -> torch.Tensor:
    """Which patches a transform is applied to."""
    return chance.uniform() < arguments.get("p", 1.0)


def _cut_middle(images: torch.Tensor, patch_zyx: Index) -> torch.Tensor:
    start = np.array(images.shape[2:]) - np.array(patch_zyx)
    z, y, x = (slice(s // 2, s // 2 + n) for s, n in zip(start.tolist(), patch_zyx, strict=True))
    return images[:, :, z, y, x]


def _as_float(subject: tio.Subject) -> tio.Subject:
    """TorchIO's transforms compute in float32."""
    for image in subject.get_images(intensity_only=True):
        image.set_data(image.data.float())
    return subject
