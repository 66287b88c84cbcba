"""The phantom's lesions: ellipsoids of known volume, SUV and density, none touching another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from petct.phantom_shapes import Ellipsoid, Point, as_point
from petct.phantom_skeleton import VERTEBRAE, spine_y
from petct.phantom_uptake import Tissue, log_normal

LEAST_ML = 3.0
MOST_ML: dict[str, float] = {
    "node": 45.0,
    "lung": 120.0,
    "liver": 120.0,
    "bone": 60.0,
    "mass": 200.0,
}
KIND_CHANCES: dict[str, float] = {
    "node": 0.32,
    "lung": 0.18,
    "liver": 0.16,
    "bone": 0.18,
    "mass": 0.16,
}
COUNT_CHANCES = (0.05, 0.07, 0.10, 0.13, 0.15, 0.17, 0.17, 0.16)  # 1 to 8 lesions
FAINT_BELOW_ML = 15.0  # large lesions are seldom faint
FAINT_CHANCE = 0.2
GAP_MM = 9.0  # between two lesions, so that they stay two components on the coarsest PET grid
CONTRAST = 2.0  # a lesion's SUV is at least this many times that of any tissue it replaces

NODE_STATIONS: tuple[tuple[Point, Point], ...] = (  # left-sided centre and spread, nominal mm
    ((44, -4, 605), (4, 6, 18)),
    ((62, -16, 552), (8, 5, 5)),
    ((132, 4, 468), (4, 12, 18)),
    ((20, -4, 482), (6, 8, 14)),
    ((2, 12, 418), (8, 4, 6)),
    ((44, 8, 414), (5, 6, 8)),
    ((24, 0, 175), (6, 5, 35)),
    ((34, -38, 140), (18, 8, 25)),
    ((62, 2, 66), (6, 8, 14)),
    ((74, -68, -2), (6, 5, 14)),
)
MASS_SITES: tuple[tuple[Point, Point], ...] = (
    ((84, 32, -110), (10, 10, 30)),
    ((84, 74, 25), (12, 8, 20)),
    ((78, -34, -120), (12, 8, 30)),
    ((56, 70, 300), (8, 5, 40)),
    ((118, -52, 430), (8, 8, 20)),
    ((96, 30, 140), (8, 6, 15)),
)
BONE_SITES: tuple[tuple[Point, Point], ...] = (
    ((92, 28, 84), (4, 20, 22)),
    ((92, 6, 8), (6, 6, 8)),
    ((124, 8, -60), (2, 2, 35)),
    ((0, 60, 48), (22, 4, 18)),
    ((0, -86, 445), (4, 1, 35)),
    ((112, 64, 465), (10, 3, 20)),
)


@dataclass(frozen=True)
class Lesion:
    """One lesion, in scanner coordinates (LPS mm)."""

    number: int
    kind: str
    solid: Ellipsoid
    suv: float
    hu: float

    @property
    def name(self) -> str:
        return f"Lesion {self.number}"

    @property
    def volume_ml(self) -> float:
        return self.solid.volume_ml()

    def tissue(self) -> Tissue:
        return Tissue(self.name, self.suv, self.hu)


def random_rotation(rng: np.random.Generator) -> tuple[float, ...]:
    """A rotation drawn evenly from all rotations (QR of a Gaussian matrix)."""
    q, r = np.linalg.qr(rng.standard_normal((3, 3)))
    q = q * np.sign(np.diag(r))
    if np.linalg.det(q) < 0:
        q[:, 0] = -q[:, 0]
    return tuple(float(value) for value in q.ravel())


def _random_solid(rng: np.random.Generator, centre: np.ndarray, volume_ml: float) -> Ellipsoid:
    shape = np.array([1.0, rng.uniform(0.65, 1.0), rng.uniform(0.6, 1.0)])
    radius = (volume_ml * 1000.0 * 3.0 / (4.0 * np.pi * shape.prod())) ** (1.0 / 3.0)
    return Ellipsoid(as_point(centre), as_point(shape * radius), random_rotation(rng))


def _spread(rng: np.random.Generator, site: tuple[Point, Point]) -> np.ndarray:
    side = rng.choice([-1.0, 1.0])
    centre = np.asarray(site[0]) + np.asarray(site[1]) * rng.uniform(-1, 1, 3)
    return centre * (side, 1.0, 1.0)


def _draw_centre(rng: np.random.Generator, kind: str) -> np.ndarray:
    """A place for a lesion of this kind, in the nominal frame of the anatomy."""
    if kind == "node":
        return _spread(rng, NODE_STATIONS[int(rng.integers(len(NODE_STATIONS)))])
    if kind == "mass":
        return _spread(rng, MASS_SITES[int(rng.integers(len(MASS_SITES)))])
    if kind == "lung":
        side = rng.choice([-1.0, 1.0])
        return np.array([side * rng.uniform(45, 105), rng.uniform(-55, 65), rng.uniform(300, 520)])
    if kind == "liver":
        return np.array([rng.uniform(-110, 20), rng.uniform(-50, 60), rng.uniform(195, 335)])
    if rng.random() < 0.5:
        _, z, _ = VERTEBRAE[int(rng.integers(17))]
        return np.array([rng.uniform(-5, 5), spine_y(z) + rng.uniform(-2, 2), z])
    return _spread(rng, BONE_SITES[int(rng.integers(len(BONE_SITES)))])


def _draw_hu(rng: np.random.Generator, kind: str) -> float:
    """Soft tissue in nodes and lung, darker than enhanced liver, sclerotic or lytic in bone."""
    if kind == "bone":
        return float(rng.choice([45.0, 620.0]))
    centre = {"node": 55.0, "lung": 45.0, "liver": 68.0, "mass": 38.0}[kind]
    return round(float(centre + rng.uniform(-8, 8)), 1)


def sphere_points(number: int) -> np.ndarray:
    """Points spread evenly over the unit sphere (a Fibonacci lattice), (number, 3)."""
    k = np.arange(number) + 0.5
    height = 1 - 2 * k / number
    turn = np.pi * (1 + 5**0.5) * k
    ring = np.sqrt(1 - height**2)
    return np.stack([ring * np.cos(turn), ring * np.sin(turn), height], axis=1)


def points_of(solid: Ellipsoid, more_mm: float) -> np.ndarray:
    """Points on an ellipsoid's surface (``more_mm`` outside it), half-way in, and its centre."""
    unit = sphere_points(96)
    axes = np.asarray(solid.semi_axes) + more_mm
    rotation = np.reshape(solid.rotation, (3, 3))
    own = np.concatenate([unit, 0.55 * unit, np.zeros((1, 3))]) * axes
    return np.asarray(own @ rotation.T + np.asarray(solid.centre))


def place_lesions(
    rng: np.random.Generator,
    to_scanner: Callable[[np.ndarray], np.ndarray],
    tissues_at: Callable[[np.ndarray], list[Tissue]],
    z_range_mm: tuple[float, float],
) -> list[Lesion]:
    """Draw 1 to 8 lesions and find each a place.

    ``to_scanner`` maps nominal points (3,) to scanner coordinates; ``tissues_at`` gives the tissue
    at scanner points (N, 3); ``z_range_mm`` is what the PET covers, in scanner coordinates.
    """
    wanted = int(rng.choice(np.arange(1, 9), p=COUNT_CHANCES))
    lesions: list[Lesion] = []
    for _ in range(40):
        if len(lesions) == wanted:
            break
        kind = str(rng.choice(list(KIND_CHANCES), p=list(KIND_CHANCES.values())))
        volume = float(np.exp(rng.uniform(np.log(LEAST_ML), np.log(MOST_ML[kind]))))
        hu = _draw_hu(rng, kind)
        faint = volume < FAINT_BELOW_ML and rng.random() < FAINT_CHANCE
        suv = float(rng.uniform(2.0, 3.3)) if faint else log_normal(rng, 8.0, 0.35, 4.5, 15.0)
        for _ in range(60):
            solid = _random_solid(rng, to_scanner(_draw_centre(rng, kind)), volume)
            suv_here = _fits(solid, kind, suv, lesions, tissues_at, z_range_mm)
            if suv_here is not None:
                lesions.append(Lesion(len(lesions) + 1, kind, solid, round(suv_here, 3), hu))
                break
            volume = max(volume * 0.95, LEAST_ML)
    return lesions


def _fits(
    solid: Ellipsoid,
    kind: str,
    suv: float,
    others: list[Lesion],
    tissues_at: Callable[[np.ndarray], list[Tissue]],
    z_range_mm: tuple[float, float],
) -> float | None:
    """The SUV the lesion can have here (raised to stand out if faint), or None if it cannot be."""
    low, high = solid.bounds()
    if low[2] < z_range_mm[0] or high[2] > z_range_mm[1]:
        return None
    for other in others:
        reach = max(solid.semi_axes) + max(other.solid.semi_axes) + GAP_MM
        if np.linalg.norm(np.subtract(solid.centre, other.solid.centre)) < reach:
            return None
    within = tissues_at(points_of(solid, 0.0))
    names = [tissue.name for tissue in within]
    if "air" in names or "airway" in names or "grey matter" in names:
        return None
    home = {"lung": ("lung", "lung vessel"), "liver": ("liver",)}.get(kind)
    if home and sum(name in home for name in names) < 0.93 * len(names):
        return None
    if kind in ("node", "mass") and sum(n.startswith("lung") for n in names) > 0.3 * len(names):
        return None
    hottest = max(tissue.suv for tissue in within)
    typical = float(np.median([tissue.suv for tissue in within]))
    suv = max(suv, CONTRAST * typical, typical + 0.8)
    if hottest * 1.25 > suv:
        return None
    beside = tissues_at(points_of(solid, 7.0))[:96]
    if sum(tissue.suv * CONTRAST > suv for tissue in beside) > 0.15 * len(beside):
        return None
    return suv
