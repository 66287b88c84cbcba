"""The phantom's abdominal and pelvic organs, in the nominal frame of ``phantom_anatomy``."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicSpline

from petct.phantom_anatomy import ABDOMEN, TRUNK, Build
from petct.phantom_shapes import (
    Capsule,
    Common,
    Ellipsoid,
    Part,
    Point,
    Solid,
    as_point,
    grown,
    tube,
    turned,
)
from petct.phantom_uptake import Tissue, log_normal


def upper_abdomen(build: Build) -> list[Part]:
    """Liver, gallbladder, spleen, pancreas, adrenals, stomach."""
    within: Solid = grown(TRUNK, [-26.0] * len(TRUNK.knots))
    liver: list[Solid] = [
        Ellipsoid((-66, 2, 278), (60, 74, 78), turned("y", 14)),
        Ellipsoid((-82, 8, 236), (38, 54, 66), turned("y", -4)),
        Ellipsoid((-12, -36, 306), (76, 42, 34), turned("y", -12)),
    ]
    parts = [Part("liver", Common(solid, within)) for solid in liver]
    parts.append(Part("visceral fat", Ellipsoid((-24, -18, 214), (34, 40, 42), turned("y", 30))))
    parts.append(Part("gallbladder", Ellipsoid((-52, -52, 222), (13, 16, 26), turned("x", 20))))
    spleen: Solid = Ellipsoid((94, 34, 282), (34, 46, 58), turned("y", 18))
    parts.append(Part("spleen", Common(spleen, within)))
    fill = 0.55 + 0.45 * build.stomach_fill
    path: list[Point] = [
        (58, 6, 318),
        (66, -10, 285),
        (60, -34, 245),
        (34, -52, 214),
        (0, -50, 208),
        (-22, -38, 214),
    ]
    radii = np.array([34, 33, 28, 21, 16, 11]) * fill
    parts += tube("stomach wall", path, [float(r) + 4 for r in radii])
    parts += tube("stomach content", path[:-1], [float(r) for r in radii[:-1]])
    parts += tube(
        "pancreas", [(-22, -22, 208), (6, -26, 226), (42, 2, 246), (74, 22, 258)], [12, 8, 9, 8]
    )
    for side in (-1, 1):
        parts += tube("adrenal", [(side * 34, 24, 262), (side * 42, 34, 250)], [4, 3])
    return parts


def kidneys() -> list[Part]:
    parts: list[Part] = []
    for side, z in ((-1, 212.0), (1, 224.0)):
        lean = turned("y", side * 12)
        parts.append(Part("visceral fat", Ellipsoid((side * 62, 34, z), (37, 34, 64), lean)))
        parts.append(Part("kidney cortex", Ellipsoid((side * 62, 34, z), (27, 25, 54), lean)))
        parts.append(Part("kidney pelvis", Ellipsoid((side * 55, 31, z), (11, 10, 27), lean)))
        parts.append(Part("kidney pelvis", Ellipsoid((side * 42, 26, z - 4), (12, 7, 9))))
    return parts


def ureters(rng: np.random.Generator) -> tuple[list[Part], list[Tissue]]:
    """One to three hot stretches per ureter: thin, on its course, of urine's density."""
    course = CubicSpline(
        [0, 0.3, 0.6, 0.85, 1],
        [(34, 22, 205), (38, 10, 150), (44, 12, 85), (46, 18, 42), (22, 0, 22)],
    )
    parts: list[Part] = []
    tissues: list[Tissue] = []
    for side in (-1, 1):
        for number in range(int(rng.integers(0, 4))):
            name = f"ureter {'right' if side < 0 else 'left'} {number + 1}"
            suv = log_normal(rng, 7.0, 0.5, 2.5, 20.0)
            first = rng.uniform(0, 0.85)
            last = min(first + rng.uniform(0.06, 0.25), 1.0)
            points = [
                (float(side * p[0]), float(p[1]), float(p[2]))
                for p in course(np.linspace(first, last, 6))
            ]
            parts += tube(name, points, float(rng.uniform(2.5, 3.6)))
            tissues.append(Tissue(name, round(suv, 3), 10.0))
    return parts, tissues


def bladder(build: Build) -> list[Part]:
    a, b, c = build.bladder
    centre: Point = (0, -22, 8 + c)
    parts = [
        Part("muscle", Ellipsoid(centre, (a + 3, b + 3, c + 3))),
        Part("bladder", Ellipsoid(centre, (a, b, c))),
    ]
    if build.female:
        womb = Ellipsoid((0, 14, 52), (25, 18, 34), turned("x", 40))
        return [Part("uterus", womb), *parts]
    parts.append(Part("prostate", Ellipsoid((0, -8, -6), (21, 16, 15))))
    for side in (-1, 1):
        parts.append(Part("fat", Ellipsoid((side * 17, -84, -78), (17, 20, 24))))
        parts.append(Part("testes", Ellipsoid((side * 17, -84, -80), (11.5, 13, 17))))
    return parts


def _segments(
    name: str, points: np.ndarray, suvs: list[float], radius: float, fill_hu: list[float]
) -> tuple[list[Part], list[Tissue]]:
    """A gut as consecutive tubes, each with its own uptake in the wall and its own content."""
    parts: list[Part] = []
    lumens: list[Part] = []
    tissues: list[Tissue] = []
    pieces = np.array_split(np.arange(len(points) - 1), len(suvs))
    for number, (piece, suv, hu) in enumerate(zip(pieces, suvs, fill_hu, strict=True), start=1):
        run = [as_point(points[k]) for k in range(piece[0], piece[-1] + 2)]
        wall, lumen = f"{name} {number}", f"{name} content {number}"
        parts += tube(wall, run, radius)
        lumens += tube(lumen, run, radius * 0.62)
        tissues.append(Tissue(wall, round(suv, 3), 62.0))
        tissues.append(Tissue(lumen, round(0.45 * suv, 3), hu))
    return parts + lumens, tissues


def bowel(
    build: Build, rng: np.random.Generator, metformin: bool
) -> tuple[list[Part], list[Tissue]]:
    """Colon and small bowel. Their course is the patient's, their uptake the study's."""
    shape = np.random.default_rng(build.colon_seed)
    frame = np.array(
        [
            (-88, -18, 45),
            (-94, -14, 95),
            (-92, -10, 150),
            (-86, -22, 186),
            (-58, -58, 176),
            (-15, -68, 150),
            (35, -66, 158),
            (76, -44, 208),
            (96, -4, 214),
            (98, 10, 160),
            (96, 2, 100),
            (84, -6, 60),
            (54, -26, 74),
            (26, 0, 66),
            (14, 34, 52),
            (0, 44, 20),
            (0, 40, -22),
        ],
        float,
    )
    frame[1:-2] += shape.normal(0, 5, (len(frame) - 3, 3))
    path = CubicSpline(np.linspace(0, 1, len(frame)), frame)(np.linspace(0, 1, 64))
    level = (
        log_normal(rng, 8.0, 0.3, 5.0, 14.0) if metformin else log_normal(rng, 2.0, 0.35, 0.8, 4)
    )
    suvs = [log_normal(rng, level, 0.35, 0.6, 16.0) for _ in range(9)]
    gas = [float(v) for v in rng.choice([-850.0, 20.0, 45.0], 9, p=[0.35, 0.4, 0.25])]
    colon, colon_tissues = _segments("colon", path, suvs, 17.0, gas)

    knots = 26
    walk = np.empty((knots, 3))
    rows = np.repeat(np.arange(5), 6)[:knots]
    sweep = np.tile(np.linspace(-1, 1, 6), 5)[:knots] * np.where(rows % 2 == 0, 1, -1)
    walk[:, 0] = 62 * sweep + shape.normal(0, 8, knots)
    walk[:, 1] = shape.uniform(-58, -8, knots)
    walk[:, 2] = 175 - 24 * rows + shape.normal(0, 8, knots)
    small = CubicSpline(np.linspace(0, 1, knots), walk)(np.linspace(0, 1, 120))
    base = log_normal(rng, 1.8, 0.3, 0.8, 3.2)
    suvs = [log_normal(rng, base, 0.3, 0.5, 6.0) for _ in range(10)]
    content = [float(v) for v in rng.choice([15.0, 30.0, 120.0], 10)]
    small_parts, small_tissues = _segments("small bowel", small, suvs, 12.0, content)
    duodenum: list[Point] = [
        (-24, -36, 212),
        (-38, -18, 200),
        (-36, -8, 165),
        (0, -12, 158),
        (26, -18, 178),
    ]
    parts = tube("stomach wall", duodenum, 12.0) + small_parts + colon
    kept = [Part(p.tissue, _kept_inside(p)) for p in parts]
    return kept, colon_tissues + small_tissues


def _kept_inside(part: Part) -> Solid:
    """Bowel stays within the abdominal cavity, so that it never lies in the wall."""
    solid = part.solid
    if isinstance(solid, Capsule) and min(solid.start[2], solid.end[2]) < 0:
        return solid
    return Common(solid, ABDOMEN)
