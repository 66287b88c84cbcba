"""Random changes to training patches, defined in TorchIO's terms.

The config names TorchIO transforms and their arguments. Two engines carry them out: TorchIO's own,
on the CPU, as the reference; and one that draws from the same distributions, reads what the drawn
change needs and no more, and carries it out in torch on the device that trains, with a single
interpolation for all spatial transforms together (``petct.sampling``).

What the second engine draws for a patch hangs on the patch's own generator alone, so that several
processes draw alike whichever of them holds the patch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torchio as tio

from petct.errors import PetctError
from petct.grids import Index
from petct.patches import image_of, stack_images

_SPATIAL = ("RandomFlip", "RandomAffine", "RandomElasticDeformation")
_ARGUMENTS = {
    "RandomFlip": {"axes", "flip_probability", "p"},
    "RandomAffine": {"scales", "degrees", "translation", "isotropic", "p"},
    "RandomElasticDeformation": {"num_control_points", "max_displacement", "locked_borders", "p"},
    "RandomNoise": {"mean", "std", "p"},
    "RandomGamma": {"log_gamma", "p"},
}
# Intensities change in CT and PET alone: a coarse probability must stay one.
INTENSITY_CHANNELS = 2
# TorchIO turns in RAS order of axes, ITK in LPS: the first two axes point the other way.
_LPS = np.array([-1.0, -1.0, 1.0])
# Splines of TorchIO's elastic deformation are cubic.
_SPLINE_ORDER = 3


@dataclass(frozen=True)
class Noise:
    """Normal noise, added: mean and standard deviation by channel."""

    mean: list[float]
    std: list[float]
    seed: int


@dataclass(frozen=True)
class Gamma:
    """x to sign(x) |x|^exponent, by channel."""

    exponents: list[float]


@dataclass(frozen=True)
class Change:
    """What one patch undergoes.

    A voxel at offset p (z, y, x, in voxels) from the patch's centre is read at offset
    ``matrix @ (p + u(p)) + shift`` in the study. u is a cubic B-spline over a ``window_zyx``
    around the same centre; ``displacement`` holds its control points (3, n, n, n) in voxels.
    """

    matrix: np.ndarray
    shift: np.ndarray
    displacement: np.ndarray | None
    window_zyx: Index
    intensities: tuple[Noise | Gamma, ...]

    @property
    def flipped(self) -> tuple[int, ...] | None:
        """The axes to turn round if that is all that happens in space, else None."""
        signs = np.diagonal(self.matrix)
        if self.displacement is not None or self.shift.any():
            return None
        if not (np.abs(self.matrix) == np.eye(3)).all():
            return None
        return tuple(int(axis) for axis in np.flatnonzero(signs < 0))


def window_to_read(patch_zyx: Index, definition: dict[str, dict[str, Any]]) -> Index:
    """How much TorchIO is given, so that turning and shrinking a patch shows no empty corners.

    Patches are placed by where this window lies, whichever engine changes them.
    """
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
        steps.append(transform(**arguments, exclude=None if name in _SPATIAL else ["prior"]))
    change = tio.Compose(steps)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        changed = [change(_as_float(subject)) for subject in subjects]
    images = torch.stack([stack_images(subject) for subject in changed])
    labels = torch.stack([image_of(subject, "label") for subject in changed])
    return _cut_middle(images, patch_zyx), _cut_middle(labels, patch_zyx)


def check_definition(definition: dict[str, dict[str, Any]]) -> None:
    """Raise PetctError for a transform, or an argument of one, that torch does not carry out."""
    for name, arguments in definition.items():
        if name not in _ARGUMENTS:
            raise PetctError(
                f"training.augmentation: {name} runs with augmentation_engine torchio only;"
                f" torch has {', '.join(_ARGUMENTS)}"
            )
        unknown = sorted(set(arguments) - _ARGUMENTS[name])
        if unknown:
            raise PetctError(
                f"training.augmentation: {name} takes {', '.join(unknown)} with"
                " augmentation_engine torchio only"
            )


def draw_change(
    definition: dict[str, dict[str, Any]],
    window_zyx: Index,
    spacing_zyx_mm: tuple[float, float, float],
    generator: np.random.Generator,
) -> Change:
    """Draw what a patch undergoes, in the config's order, but an elastic deformation last in space.

    ``window_zyx`` (``window_to_read``) is what TorchIO's elastic deformation spreads over.
    """
    spacing = np.array(spacing_zyx_mm)
    matrix, shift, displacement = np.eye(3), np.zeros(3), None
    intensities: list[Noise | Gamma] = []
    for name, arguments in definition.items():
        if generator.random() >= arguments.get("p", 1.0):
            continue
        if name == "RandomFlip":
            matrix = matrix @ _draw_flip(arguments, generator)
        elif name == "RandomAffine":
            turned, moved_mm = _draw_affine(arguments, generator)
            matrix, shift = matrix @ turned, shift + matrix @ moved_mm
        elif name == "RandomElasticDeformation":
            displacement = _draw_control_points(arguments, generator)
            displacement = displacement / spacing[:, None, None, None]
        elif name == "RandomNoise":
            intensities.append(_draw_noise(arguments, generator))
        elif name == "RandomGamma":
            low, high = _range(arguments.get("log_gamma", 0.3))
            exponents = np.exp(generator.uniform(low, high, INTENSITY_CHANNELS))
            intensities.append(Gamma(exponents.tolist()))
    # Turned and scaled in millimetres, read in voxels.
    matrix = matrix * spacing[None, :] / spacing[:, None]
    return Change(matrix, shift / spacing, displacement, window_zyx, tuple(intensities))


def _draw_flip(arguments: dict[str, Any], generator: np.random.Generator) -> np.ndarray:
    axes = arguments.get("axes", 0)
    signs = np.ones(3)
    for axis in [axes] if isinstance(axes, int) else axes:
        if generator.random() < arguments.get("flip_probability", 0.5):
            signs[axis] = -1.0
    return np.diag(signs)


def _draw_affine(
    arguments: dict[str, Any], generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Matrix and shift [mm] from output to input offsets."""
    scales = generator.uniform(*_ranges(arguments.get("scales", 0.1), around=1.0).T)
    if arguments.get("isotropic", False):
        scales[:] = scales[0]
    degrees = generator.uniform(*_ranges(arguments.get("degrees", 10)).T)
    translation_mm = generator.uniform(*_ranges(arguments.get("translation", 0)).T)
    # ITK's Euler transform: about the second axis first, then the first, then the third.
    a, b, c = np.radians(degrees) * _LPS
    turns = {
        0: [[1, 0, 0], [0, math.cos(a), -math.sin(a)], [0, math.sin(a), math.cos(a)]],
        1: [[math.cos(b), 0, math.sin(b)], [0, 1, 0], [-math.sin(b), 0, math.cos(b)]],
        2: [[math.cos(c), -math.sin(c), 0], [math.sin(c), math.cos(c), 0], [0, 0, 1]],
    }
    turn = np.array(turns[2]) @ np.array(turns[0]) @ np.array(turns[1])
    # The content is turned, shifted and then enlarged: what is read is the inverse of that.
    back = _LPS[:, None] * turn.T * _LPS[None, :]
    return back / scales[None, :], -back @ translation_mm


def _draw_control_points(arguments: dict[str, Any], generator: np.random.Generator) -> np.ndarray:
    """Displacements (3, n, n, n) [mm] of the spline's control points.

    Those at the borders of the first two axes are 0; TorchIO leaves the third axis free.
    """
    number = np.broadcast_to(arguments.get("num_control_points", 7), 3)
    limit_mm = np.broadcast_to(arguments.get("max_displacement", 7.5), 3).astype(float)
    points = generator.uniform(-1.0, 1.0, (3, *number)) * limit_mm[:, None, None, None]
    for border in range(arguments.get("locked_borders", 2)):
        for axis in (1, 2):
            edges = [slice(None)] * 4
            edges[axis] = [border, -1 - border]  # type: ignore[call-overload]
            points[tuple(edges)] = 0.0
    return points


def _draw_noise(arguments: dict[str, Any], generator: np.random.Generator) -> Noise:
    mean_low, mean_high = _range(arguments.get("mean", 0.0))
    std_low, std_high = _range(arguments.get("std", (0.0, 0.25)), lowest=0.0)
    return Noise(
        mean=generator.uniform(mean_low, mean_high, INTENSITY_CHANNELS).tolist(),
        std=generator.uniform(std_low, std_high, INTENSITY_CHANNELS).tolist(),
        seed=int(generator.integers(2**62)),
    )


def spline_weights(size: int, window: int, control_points: int) -> np.ndarray:
    """Weights (size, control points) of a cubic B-spline for the middle of a window's voxels.

    As in ITK, control points stand a mesh apart, one mesh outside of the window's border first.
    """
    mesh = control_points - _SPLINE_ORDER
    place = np.arange(size) + (window - size) // 2 + 0.5
    distance = np.abs(place[:, None] / window * mesh - (np.arange(control_points) - 1)[None, :])
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.maximum(2 - distance, 0.0) ** 3 / 6
    return np.where(distance < 1, near, far)


def _range(value: Any, lowest: float | None = None) -> tuple[float, float]:
    """TorchIO's ranges: a number n is (-n, n), or (lowest, n); a pair is itself."""
    if isinstance(value, int | float):
        return (-value if lowest is None else lowest), value
    low, high = value
    return float(low), float(high)


def _ranges(value: Any, around: float = 0.0) -> np.ndarray:
    """TorchIO's ranges for three axes, (3, 2): of one number, a pair, three numbers or six."""
    values = [float(v) for v in value] if isinstance(value, Sequence) else [float(value)]
    if len(values) in (1, 3):
        values = [side for n in values for side in (around - n, around + n)]
    return np.array(values if len(values) == 6 else values * 3).reshape(3, 2)


def _cut_middle(images: torch.Tensor, patch_zyx: Index) -> torch.Tensor:
    start = np.array(images.shape[2:]) - np.array(patch_zyx)
    z, y, x = (slice(s // 2, s // 2 + n) for s, n in zip(start.tolist(), patch_zyx, strict=True))
    return images[:, :, z, y, x]


def _as_float(subject: tio.Subject) -> tio.Subject:
    """TorchIO's transforms compute in float32."""
    for image in subject.get_images(intensity_only=True):
        image.set_data(image.data.float())
    return subject
