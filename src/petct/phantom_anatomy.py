"""The phantom's body, without bones and lesions, in the nominal frame.

LPS mm: x to the patient's left, y to the back, z to the head; the hip joints lie at z = 0, the top
of the skull near z = 835. A patient is this frame scaled along each axis, with more or less fat.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from petct.phantom_shapes import (
    Capsule,
    Common,
    Ellipsoid,
    Loft,
    Part,
    Point,
    as_point,
    ball,
    grown,
    mirrored,
    pointing,
    tube,
    turned,
)
from petct.phantom_skeleton import both_arms, pelvis_and_legs, ribs, skull, spine, spine_y

# Rows: z, half width, half depth, centre x, centre y.
TRUNK = Loft(
    (
        (-95, 40, 40, 0, 14),
        (-70, 95, 72, 0, 14),
        (-30, 158, 96, 0, 10),
        (0, 168, 102, 0, 8),
        (60, 160, 100, 0, 6),
        (120, 142, 90, 0, 2),
        (180, 134, 86, 0, 0),
        (260, 142, 94, 0, 0),
        (340, 150, 102, 0, 0),
        (420, 158, 104, 0, 2),
        (475, 160, 98, 0, 4),
        (508, 152, 84, 0, 8),
        (530, 122, 72, 0, 10),
        (552, 84, 62, 0, 10),
        (575, 60, 56, 0, 8),
        (610, 54, 54, 0, 4),
        (670, 56, 62, 0, 4),
    ),
    2.3,
)
# How much of the patient's fat layer lies at each knot of TRUNK.
FAT_SHARE = (0.8, 0.9, 1.0, 1.0, 1.0, 1.0, 1.0, 0.9, 0.75, 0.7, 0.6, 0.5, 0.45, 0.4, 0.3, 0.25, 0.2)

THORAX = Loft(
    (
        (222, 104, 70, 0, 10),
        (260, 114, 78, 0, 4),
        (300, 120, 82, 0, 2),
        (340, 125, 85, 0, 0),
        (400, 126, 85, 0, 0),
        (450, 120, 78, 0, 2),
        (490, 106, 66, 0, 8),
        (520, 86, 52, 0, 14),
        (545, 62, 40, 0, 18),
        (566, 26, 18, 0, 20),
    ),
    2.2,
)
ABDOMEN = Loft(
    (
        (-40, 28, 26, 0, 16),
        (-10, 52, 46, 0, 12),
        (30, 78, 58, 0, 4),
        (80, 98, 64, 0, -8),
        (140, 108, 62, 0, -16),
        (200, 108, 62, 0, -16),
        (250, 104, 66, 0, -10),
        (300, 84, 60, 0, -14),
        (322, 60, 44, 0, -18),
    ),
    2.3,
)
MEDIASTINUM = Loft(
    (
        (300, 44, 74, 8, 0),
        (340, 48, 80, 10, -2),
        (400, 40, 80, 6, -2),
        (450, 33, 76, 2, 2),
        (500, 30, 62, 0, 8),
        (540, 30, 44, 0, 16),
        (575, 28, 30, 0, 12),
    ),
    2.0,
)


@dataclass(frozen=True)
class Build:
    """What distinguishes one patient's body from another's (lengths in nominal mm)."""

    female: bool
    scale_xyz: Point
    fat_mm: float
    arms_up: bool
    bladder: Point  # semi-axes
    colon_seed: int
    stomach_fill: float  # 0 empty to 1 full


def draw_build(rng: np.random.Generator) -> Build:
    return Build(
        female=bool(rng.random() < 0.5),
        scale_xyz=(
            float(rng.uniform(0.93, 1.05)),
            float(rng.uniform(0.93, 1.05)),
            float(rng.uniform(0.89, 0.98)),
        ),
        fat_mm=float(rng.uniform(7, 32)),
        arms_up=bool(rng.random() < 0.62),
        bladder=as_point(rng.uniform((26, 22, 19), (44, 37, 33))),
        colon_seed=int(rng.integers(2**31)),
        stomach_fill=float(rng.uniform(0, 1)),
    )


def arm_points(build: Build) -> tuple[Point, Point, Point]:
    """Shoulder, elbow and wrist of the left arm."""
    out = 0.55 * build.fat_mm
    if build.arms_up:
        return (166, 8, 508), (196 + out, -22, 742), (118, -64, 910)
    return (168, 8, 503), (196 + out, 26, 250), (206 + out, 2, 20)


def outline(build: Build) -> list[Part]:
    """Skin and fat, then muscle: trunk, head, arms and thighs."""
    fat = build.fat_mm
    skin: list[Part] = []
    flesh: list[Part] = [Part("muscle", TRUNK)]
    skin.append(Part("fat", grown(TRUNK, [2 + fat * share for share in FAT_SHARE])))
    for side in (-1, 1):
        hip, knee = (side * 92, 8, 0), (side * (94 + 0.2 * fat), 10, -340)
        skin.append(Part("fat", Capsule(hip, knee, 78 + 0.7 * fat, 58 + 0.5 * fat)))
        flesh.append(Part("muscle", Capsule((side * 92, 10, -20), knee, 72, 55)))
        flesh.append(Part("muscle", Ellipsoid((side * 76, 62, 20), (70, 50, 75))))
        skin.append(Part("fat", Ellipsoid((side * 76, 62, 20), (74, 52 + 0.8 * fat, 80))))
        shoulder, elbow, wrist = arm_points(build)
        if side < 0:
            shoulder, elbow, wrist = mirrored(shoulder), mirrored(elbow), mirrored(wrist)
        inner: Point = (side * 105, 10, 505)
        for part_list, more in ((skin, 3 + 0.35 * fat), (flesh, 0.0)):
            tissue = "fat" if part_list is skin else "muscle"
            part_list += tube(
                tissue,
                [inner, shoulder, elbow, wrist],
                [50 + more, 44 + more, 33 + more, 23 + more],
            )
        if build.female:
            breast = Ellipsoid((side * 78, -98 - 0.3 * fat, 415), (52, 38 + 0.6 * fat, 52))
            skin.append(Part("fat", breast))
            gland = Ellipsoid((side * 78, -112 - 0.4 * fat, 412), (30, 18, 28))
            flesh.append(Part("breast", gland))
    head = [
        Part("fat", Ellipsoid((0, -4, 748), (80, 97, 87))),
        Part("fat", Ellipsoid((0, -38, 668), (64, 65, 72), turned("x", 4))),
        Part("muscle", Ellipsoid((0, -37, 667), (60, 61, 67), turned("x", 4))),
        Part("cartilage", Ellipsoid((0, -99, 680), (13, 17, 20))),
    ]
    # Breast fat must not hide the chest wall: skin first, then everything within it.
    return skin + head[:2] + flesh + head[2:]


def fat_planes() -> list[Part]:
    """Fat between muscles, which makes a CT slice look like one."""
    parts: list[Part] = []
    for side in (-1, 1):
        parts += tube("fat", [(side * 62, -30, -20), (side * 78, -42, -150)], 12.0)
        parts += tube("fat", [(side * 90, 48, -60), (side * 92, 44, -330)], 9.0)
        parts.append(Part("fat", Ellipsoid((side * 132, 4, 470), (20, 34, 42))))
        parts += tube("fat", [(side * 40, -10, 620), (side * 52, -6, 560), (side * 86, 0, 538)], 13)
        parts.append(Part("fat", Ellipsoid((side * 75, -70, 0), (26, 22, 40))))
        parts.append(Part("fat", Ellipsoid((side * 40, 44, -40), (20, 28, 40))))
    return parts


def brain() -> list[Part]:
    parts = [
        Part("cerebrospinal fluid", Ellipsoid((0, -4, 748), (68, 85, 75))),
        Part("muscle", Ellipsoid((0, -30, 684), (66, 60, 16), power=4)),
        Part("rib", Ellipsoid((0, -26, 690), (60, 52, 9), power=4)),
    ]
    for side in (-1, 1):
        half = Ellipsoid((side * 30, -6, 754), (35, 80, 62))
        parts.append(Part("grey matter", half))
        parts.append(Part("white matter", Ellipsoid((side * 30, -6, 757), (19, 63, 45))))
        parts.append(Part("grey matter", Ellipsoid((side * 17, -8, 746), (12, 27, 16))))
        parts.append(
            Part("cerebrospinal fluid", Ellipsoid((side * 9, 4, 766), (6, 30, 9), turned("x", -15)))
        )
        parts.append(Part("cerebellum", Ellipsoid((side * 23, 44, 698), (26, 27, 20))))
        parts.append(Part("eye", ball((side * 31, -74, 702), 12)))
        parts.append(
            Part("eye muscle", Capsule((side * 22, -60, 703), (side * 14, -40, 705), 4, 3))
        )
    parts += tube("white matter", [(0, 8, 730), (0, 14, 690), (0, 24, 664)], [15, 12, 7])
    return parts


def face_and_neck(tonsil_radius: float) -> list[Part]:
    parts = [
        Part("tongue", Ellipsoid((0, -52, 636), (24, 32, 20))),
        Part("airway", Ellipsoid((0, -54, 678), (11, 30, 15), power=4)),
        Part("soft palate", Ellipsoid((0, -24, 653), (14, 10, 4))),
        *tube("airway", [(0, -24, 672), (0, -14, 640), (0, -22, 600)], [10, 8, 8]),
        Part("larynx", Ellipsoid((0, -30, 588), (16, 15, 18))),
    ]
    for side in (-1, 1):
        parts.append(Part("airway", Ellipsoid((side * 29, -62, 674), (12, 15, 15))))
        parts.append(Part("parotid gland", Ellipsoid((side * 57, -10, 648), (9, 16, 24))))
        parts.append(Part("tonsil", ball((side * 17, -22, 636), tonsil_radius)))
        parts.append(Part("sublingual gland", Ellipsoid((side * 15, -62, 616), (7, 15, 6))))
        parts.append(Part("thyroid", Ellipsoid((side * 16, -26, 556), (8.5, 9, 21))))
        parts += tube("blood", [(side * 30, -12, 645), (side * 26, -16, 540)], 5.0)
    trachea: list[Point] = [(0, -22, 585), (0, -10, 530), (0, 12, 446)]
    parts += tube("cartilage", trachea, 10.5) + tube("airway", trachea, 8.5)
    return parts


def chest(rng: np.random.Generator) -> list[Part]:
    """Lungs with vessels, mediastinum, heart and great vessels. The heart lies on the diaphragm."""
    parts = [Part("lung", THORAX)]
    for side in (-1, 1):
        for _ in range(16):
            root: Point = (side * 30.0, 10.0, 420.0)
            reach = np.array(
                [side * rng.uniform(35, 80), rng.uniform(-60, 60), rng.uniform(-150, 90)]
            )
            middle = np.asarray(root) + reach * 0.5 + rng.normal(0, 7, 3)
            points = [root, as_point(middle), as_point(np.asarray(root) + reach)]
            branch = tube("lung vessel", points, [5.0, 3.0, 1.6])
            parts += [Part(part.tissue, Common(part.solid, THORAX)) for part in branch]
    parts.append(Part("visceral fat", MEDIASTINUM))
    for side in (-1, 1):
        parts += tube(
            "airway", [(0, 12, 446), (side * 38, 14, 416), (side * 58, 16, 396)], [7, 6, 4]
        )
        parts += tube("blood", [(side * 8, 2, 428), (side * 46, 8, 414)], [12, 9])
    parts += tube("oesophagus", [(0, spine_y(z) - 24, z) for z in (575, 500, 420, 350, 318)], 7.0)
    return parts


def heart() -> list[Part]:
    axis = np.array([0.66, -0.56, -0.50])
    turn = pointing((0.66, -0.56, -0.50))
    centre = np.array([42.0, -34.0, 366.0])
    base = as_point(centre - 46 * axis)
    cavity = as_point(centre - 7 * axis)
    return [
        Part("blood", Ellipsoid((18, -30, 376), (58, 46, 50), turned("y", 24))),
        Part("blood", Ellipsoid((4, 10, 396), (38, 26, 30))),
        Part("heart wall", Ellipsoid(as_point(centre), (35, 35, 50), turn)),
        Part("blood", Ellipsoid(cavity, (23, 23, 39), turn)),
        Part("blood", Ellipsoid(base, (29, 29, 22), turn)),
    ]


def vessels() -> list[Part]:
    arch: list[Point] = [
        (2, -18, 400),
        (-8, -26, 440),
        (0, -14, 468),
        (14, 12, 474),
        (22, 32, 455),
        (22, 34, 400),
        (14, 22, 320),
        (8, 10, 260),
        (6, 2, 180),
        (2, 4, 125),
    ]
    parts = tube("blood", arch, [15, 15, 14, 13, 12.5, 12, 11.5, 10.5, 9.5, 9])
    parts += tube("blood", [(-24, -12, 400), (-24, -22, 490), (-20, -22, 520)], [11, 9.5, 8])
    parts += tube("blood", [(-26, 6, 330), (-24, 6, 250), (-20, 8, 120)], [12, 11, 10])
    for side in (-1, 1):
        iliac: list[Point] = [
            (side * 4, 6, 122),
            (side * 36, 16, 75),
            (side * 58, -20, 25),
            (side * 74, -62, -10),
            (side * 78, -46, -150),
            (side * 84, -10, -330),
        ]
        parts += tube("blood", iliac, [7, 6.5, 6, 6, 5, 4])
        parts += tube(
            "blood", [(side * 22, -20, 495), (side * 70, -30, 530), (side * 130, 5, 500)], 5
        )
        psoas: list[Point] = [(side * 30, 30, 235), (side * 42, 22, 150), (side * 80, -12, 25)]
        parts += tube("muscle", psoas, [11, 19, 14])
    return parts


def body(build: Build, rng: np.random.Generator, tonsil_radius: float) -> list[Part]:
    """Everything above the diaphragm, the bones and the empty abdominal cavity."""
    couch = Ellipsoid((0, 124 + build.fat_mm, 300), (205, 11, 3000), power=4)
    parts = [Part("table", couch), *outline(build), *fat_planes()]
    parts += ribs(THORAX)
    parts += chest(rng)
    parts += skull() + brain() + face_and_neck(tonsil_radius)
    parts.append(Part("visceral fat", Ellipsoid((64, -4, 262), (56, 62, 72))))
    parts.append(Part("visceral fat", ABDOMEN))
    parts += spine() + pelvis_and_legs() + both_arms(*arm_points(build))
    return parts
