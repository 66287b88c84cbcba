"""The solids that the phantom is made of, and how they are painted onto a grid.

A solid says whether points lie inside it (``inside``, any broadcastable coordinate arrays, mm) and
which box holds it (``bounds``, lower and upper corner, xyz mm). Parts are painted in order: where
two overlap, the later one wins.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.interpolate import PchipInterpolator

Point = tuple[float, float, float]
Rotation = tuple[float, ...]  # row-major 3 x 3; its columns are the solid's own axes
Bounds = tuple[np.ndarray, np.ndarray]
Axes = tuple[np.ndarray, np.ndarray, np.ndarray]  # coordinates along x, y and z, mm

UPRIGHT: Rotation = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
SLAB_VOXELS = 2_000_000  # painted at once: keeps the temporaries of a clinical grid small


class Solid(Protocol):
    def inside(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray: ...

    def bounds(self) -> Bounds: ...


@dataclass(frozen=True)
class Ellipsoid:
    """|u/a|^p + |v/b|^p + |w/c|^p <= 1 in its own axes: p = 2 an ellipsoid, p = 4 a rounded box."""

    centre: Point
    semi_axes: Point
    rotation: Rotation = UPRIGHT
    power: int = 2

    def inside(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        x, y, z = x - self.centre[0], y - self.centre[1], z - self.centre[2]
        if self.rotation == UPRIGHT:
            own = [x, y, z]
        else:
            r = self.rotation
            own = [r[k] * x + r[3 + k] * y + r[6 + k] * z for k in range(3)]
        total = sum((u / s) ** self.power for u, s in zip(own, self.semi_axes, strict=True))
        return np.asarray(total <= 1.0)

    def bounds(self) -> Bounds:
        spread = np.reshape(self.rotation, (3, 3)) * np.asarray(self.semi_axes)
        reach = np.sqrt((spread**2).sum(1)) if self.power == 2 else np.abs(spread).sum(1)
        return np.asarray(self.centre) - reach, np.asarray(self.centre) + reach

    def volume_ml(self) -> float:
        """Closed form, for p = 2: 4/3 pi a b c."""
        if self.power != 2:
            raise ValueError("only an ellipsoid's volume is 4/3 pi abc")
        return 4.0 / 3.0 * math.pi * math.prod(self.semi_axes) / 1000.0


@dataclass(frozen=True)
class Capsule:
    """The points within a radius of a segment; the radius changes linearly along it."""

    start: Point
    end: Point
    start_radius: float
    end_radius: float

    def inside(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        axis = np.subtract(self.end, self.start)
        x, y, z = x - self.start[0], y - self.start[1], z - self.start[2]
        along = (x * axis[0] + y * axis[1] + z * axis[2]) / max(float(axis @ axis), 1e-9)
        along = np.clip(along, 0.0, 1.0)
        distance2 = (x - along * axis[0]) ** 2 + (y - along * axis[1]) ** 2
        distance2 = distance2 + (z - along * axis[2]) ** 2
        radius = self.start_radius + (self.end_radius - self.start_radius) * along
        return np.asarray(distance2 <= radius**2)

    def bounds(self) -> Bounds:
        ends = np.array([self.start, self.end])
        reach = np.array([[self.start_radius], [self.end_radius]])
        return (ends - reach).min(0), (ends + reach).max(0)


@functools.cache
def _curve_through(
    knots: tuple[tuple[float, float, float, float, float], ...],
) -> PchipInterpolator:
    table = np.array(knots)
    return PchipInterpolator(table[:, 0], table[:, 1:])


@dataclass(frozen=True)
class Loft:
    """Stacked superellipses, smooth between knots.

    ``knots``: rows of (z, half width, half depth, centre x, centre y), rising in z, in mm.
    ``power``: 2 an ellipse, larger values squarer.
    """

    knots: tuple[tuple[float, float, float, float, float], ...]
    power: float

    def section(self, z: np.ndarray) -> tuple[np.ndarray, ...]:
        """Half width, half depth, centre x and centre y at heights ``z``; 0 mm wide beyond."""
        curve = _curve_through(self.knots)
        flat = np.clip(z, self.knots[0][0], self.knots[-1][0])
        values = np.moveaxis(curve(flat), -1, 0)
        return tuple(value.astype(np.float32) for value in values)

    def inside(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        width, depth, x0, y0 = self.section(z)
        across = np.abs((x - x0) / width) ** self.power
        deep = np.abs((y - y0) / depth) ** self.power
        return (across + deep <= 1.0) & (z >= self.knots[0][0]) & (z <= self.knots[-1][0])

    def bounds(self) -> Bounds:
        table = np.array(self.knots)
        low = [(table[:, 3] - table[:, 1]).min(), (table[:, 4] - table[:, 2]).min(), table[0, 0]]
        high = [(table[:, 3] + table[:, 1]).max(), (table[:, 4] + table[:, 2]).max(), table[-1, 0]]
        return np.array(low), np.array(high)


@dataclass(frozen=True)
class Common:
    """What two solids have in common."""

    first: Solid
    second: Solid

    def inside(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        return self.first.inside(x, y, z) & self.second.inside(x, y, z)

    def bounds(self) -> Bounds:
        low1, high1 = self.first.bounds()
        low2, high2 = self.second.bounds()
        return np.maximum(low1, low2), np.minimum(high1, high2)


@dataclass(frozen=True)
class Without:
    """The first solid less the second: a shell."""

    first: Solid
    second: Solid

    def inside(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        return self.first.inside(x, y, z) & ~self.second.inside(x, y, z)

    def bounds(self) -> Bounds:
        return self.first.bounds()


@dataclass(frozen=True)
class Part:
    """A solid of one tissue."""

    tissue: str
    solid: Solid


def ball(centre: Point, radius: float) -> Ellipsoid:
    return Ellipsoid(centre, (radius, radius, radius))


def turned(axis: str, degrees: float) -> Rotation:
    """A rotation about the x, y or z axis (right-handed, in LPS)."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return {
        "x": (1.0, 0.0, 0.0, 0.0, c, -s, 0.0, s, c),
        "y": (c, 0.0, s, 0.0, 1.0, 0.0, -s, 0.0, c),
        "z": (c, -s, 0.0, s, c, 0.0, 0.0, 0.0, 1.0),
    }[axis]


def pointing(direction: Point) -> Rotation:
    """A rotation whose third axis points along ``direction``."""
    third = np.asarray(direction, float) / np.linalg.norm(direction)
    first = np.cross([0.0, 1.0, 0.0] if abs(third[1]) < 0.9 else [1.0, 0.0, 0.0], third)
    first /= np.linalg.norm(first)
    matrix = np.stack([first, np.cross(third, first), third], axis=1)
    return tuple(float(value) for value in matrix.ravel())


def tube(tissue: str, points: Sequence[Point], radii: Sequence[float] | float) -> list[Part]:
    """A tube through ``points`` as a chain of capsules."""
    sizes = [radii] * len(points) if isinstance(radii, int | float) else list(radii)
    return [
        Part(tissue, Capsule(points[k], points[k + 1], sizes[k], sizes[k + 1]))
        for k in range(len(points) - 1)
    ]


def grown(loft: Loft, by_mm: Sequence[float]) -> Loft:
    """The loft with each section wider and deeper by ``by_mm`` (one value per knot)."""
    rows = [
        (z, a + mm, b + mm, x, y) for (z, a, b, x, y), mm in zip(loft.knots, by_mm, strict=True)
    ]
    return Loft(tuple(rows), loft.power)


def as_point(values: Sequence[float] | np.ndarray) -> Point:
    """Three numbers as plain floats."""
    x, y, z = values
    return float(x), float(y), float(z)


def mirrored(point: Point) -> Point:
    return (-point[0], point[1], point[2])


def paint(
    parts: Sequence[Part],
    index: dict[str, int],
    axes_xyz_mm: Axes,
    labels: np.ndarray,
) -> None:
    """Paint each part's tissue index into ``labels`` (Z, Y, X), in order.

    ``axes_xyz_mm`` are the coordinates of the voxel centres along x, y and z, rising.
    """
    x, y, z = (np.asarray(axis, np.float32) for axis in axes_xyz_mm)
    boxes = boxes_of(parts)
    step = max(1, SLAB_VOXELS // (len(x) * len(y)))
    for first in range(0, len(z), step):
        slab_z = z[first : first + step]
        for part, (low, high) in zip(parts, boxes, strict=True):
            if low[2] > slab_z[-1] or high[2] < slab_z[0]:
                continue
            (x0, x1), (y0, y1), (z0, z1) = (
                np.searchsorted(axis, (low[k] - 1e-3, high[k] + 1e-3))
                for k, axis in enumerate((x, y, slab_z))
            )
            if x0 == x1 or y0 == y1 or z0 == z1:
                continue
            inside = part.solid.inside(
                x[None, None, x0:x1], y[None, y0:y1, None], slab_z[z0:z1, None, None]
            )
            target = labels[first + z0 : first + z1, y0:y1, x0:x1]
            target[np.broadcast_to(inside, target.shape)] = index[part.tissue]


def boxes_of(parts: Sequence[Part]) -> np.ndarray:
    """The parts' boxes: (parts, 2, 3), lower and upper corner, xyz mm."""
    return np.array([part.solid.bounds() for part in parts])


def label_points(
    parts: Sequence[Part], boxes: np.ndarray, index: dict[str, int], points: np.ndarray
) -> np.ndarray:
    """The tissue index at each of ``points`` (N, 3; xyz mm); 0 where there is no part.

    ``boxes`` are ``boxes_of(parts)``, which many calls can share.
    """
    x, y, z = points.T
    labels = np.zeros(len(points), np.int64)
    near = (boxes[:, 0] <= points.max(0)).all(1) & (boxes[:, 1] >= points.min(0)).all(1)
    for part in (part for part, is_near in zip(parts, near, strict=True) if is_near):
        labels[part.solid.inside(x, y, z)] = index[part.tissue]
    return labels
