"""Uptake that looks like a lesion and is none, beside what every body has (bladder, heart, bowel).

Each trap can be told from a lesion by shape, place or density: brown fat has the density of fat and
lies in its stations on both sides, inflamed muscle is long and thin and as dense as muscle,
synovitis is a shell around a joint, sarcoid-like nodes are small, calcified and symmetrical.
"""

from __future__ import annotations

import numpy as np

from petct.phantom_anatomy import Build, arm_points
from petct.phantom_shapes import Capsule, Ellipsoid, Part, Point, Without, ball, mirrored, tube
from petct.phantom_skeleton import spine_y
from petct.phantom_uptake import Tissue, log_normal

# How often each trap is drawn (chosen).
CHANCES: dict[str, float] = {
    "brown fat": 0.18,
    "muscle strain": 0.30,
    "synovitis": 0.25,
    "sarcoid-like nodes": 0.15,
    "thyroiditis": 0.12,
    "oesophagitis": 0.15,
    "vocal cords": 0.20,
    "injection site": 0.15,
    "scar": 0.12,
}


def draw_traps(build: Build, rng: np.random.Generator) -> list[str]:
    """The traps of one study, by name; the number of values drawn is always the same."""
    drawn = dict(zip(CHANCES, rng.random(len(CHANCES)), strict=True))
    names = [name for name, chance in CHANCES.items() if drawn[name] < chance]
    return [name for name in names if name != "injection site" or not build.arms_up]


def trap_parts(
    names: list[str], build: Build, rng: np.random.Generator
) -> tuple[list[Part], list[Tissue]]:
    """Solids and tissues of the named traps; the tissues carry the traps' names."""
    parts: list[Part] = []
    tissues: list[Tissue] = []
    for name in names:
        solids, suv, hu = _one_trap(name, build, rng)
        parts += [Part(name, part.solid) for part in solids]
        tissues.append(Tissue(name, round(suv, 3), hu))
    return parts, tissues


def _one_trap(name: str, build: Build, rng: np.random.Generator) -> tuple[list[Part], float, float]:
    side = int(rng.choice([-1, 1]))
    parts: list[Part] = []
    if name == "brown fat":
        for mirror in (-1, 1):
            cape: list[Point] = [
                (mirror * 42, -4, 604),
                (mirror * 54, -2, 566),
                (mirror * 84, 2, 541),
            ]
            parts += tube(name, cape, [5, 8, 6])
            for z in range(330, 540, 26):
                parts.append(Part(name, ball((mirror * 25.0, spine_y(z) + 6, z + 12.0), 5.0)))
        return parts, log_normal(rng, 5.5, 0.4, 2.5, 13.0), -95.0
    if name == "muscle strain":
        courses: list[list[Point]] = [
            [(side * 38, 72, 330), (side * 36, 66, 200)],
            [(side * 96, 88, 60), (side * 118, 50, -10)],
            [(side * 112, -38, -40), (side * 106, -42, -190)],
            [(side * 44, 42, 600), (side * 92, 58, 526)],
        ]
        points = courses[int(rng.integers(len(courses)))]
        parts += tube(name, points, [float(rng.uniform(6, 9)), float(rng.uniform(4, 6))])
        return parts, log_normal(rng, 3.2, 0.25, 2.0, 5.5), 58.0
    if name == "synovitis":
        shoulder = arm_points(build)[0]
        hip = rng.random() < 0.4
        joint: Point = (92, 3, 0) if hip else shoulder
        centre = joint if side > 0 else mirrored(joint)
        parts.append(Part(name, Without(ball(centre, 31), ball(centre, 27 if hip else 24))))
        return parts, log_normal(rng, 3.0, 0.25, 1.8, 5.0), 50.0
    if name == "sarcoid-like nodes":
        for mirror in (-1, 1):
            for point, radius in (
                ((44.0, 2.0, 424.0), 8.0),
                ((50.0, 20.0, 402.0), 7.0),
                ((19.0, 0.0, 478.0), 6.5),
            ):
                centre = (mirror * point[0], point[1], point[2])
                parts.append(Part(name, ball(centre, radius * float(rng.uniform(0.85, 1.1)))))
        return parts, log_normal(rng, 4.5, 0.3, 2.5, 8.0), 230.0
    if name == "thyroiditis":
        for mirror in (-1, 1):
            parts.append(Part(name, Ellipsoid((mirror * 16, -26, 556), (9.5, 10, 23))))
        return parts, log_normal(rng, 5.0, 0.3, 3.0, 9.0), 85.0
    if name == "oesophagitis":
        course = [(0.0, spine_y(z) - 24, float(z)) for z in (440, 400, 360, 322)]
        return tube(name, course, 7.5), log_normal(rng, 4.0, 0.25, 2.5, 7.0), 45.0
    if name == "vocal cords":
        for mirror in (-1, 1):
            parts.append(
                Part(name, Capsule((mirror * 3, -42, 586), (mirror * 8, -24, 586), 3.5, 4))
            )
        return parts, log_normal(rng, 4.5, 0.3, 2.5, 8.0), 70.0
    if name == "injection site":
        elbow = arm_points(build)[1]
        vein = (elbow[0] - 6, elbow[1] - 26, elbow[2] + 5)
        vein = vein if side > 0 else mirrored(vein)
        below = (vein[0], vein[1], vein[2] - 26)
        return tube(name, [vein, below], 4.0), log_normal(rng, 15.0, 0.5, 5.0, 40.0), 25.0
    if name == "scar":
        y = -88.0 - 0.6 * build.fat_mm
        course = [(4.0, y, 190.0), (3.0, y - 1, 150.0), (5.0, y + 1, 100.0)]
        return tube(name, course, 4.5), log_normal(rng, 2.8, 0.2, 2.0, 4.5), 35.0
    raise ValueError(f"no such trap: {name}")
