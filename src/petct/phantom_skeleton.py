"""The phantom's bones, in the nominal frame (LPS mm; the hip joints lie at z = 0)."""

from __future__ import annotations

import numpy as np

from petct.phantom_shapes import (
    Capsule,
    Ellipsoid,
    Loft,
    Part,
    Point,
    ball,
    mirrored,
    tube,
    turned,
)

# Name and height of each vertebral body's centre, and half its height.
VERTEBRAE: tuple[tuple[str, float, float], ...] = (
    *((f"L{n}", z, 14.0) for n, z in zip((5, 4, 3, 2, 1), (95, 130, 165, 199, 232), strict=True)),
    *((f"T{n}", 262.0 + 25.0 * (12 - n), 10.5) for n in range(12, 0, -1)),
    *((f"C{n}", 557.0 + 16.5 * (7 - n), 6.8) for n in range(7, 0, -1)),
)
_SPINE_Z = (40, 95, 165, 260, 380, 480, 540, 590, 660)
_SPINE_Y = (52, 36, 30, 42, 54, 50, 40, 24, 14)


def spine_y(z: float) -> float:
    """How far behind the mid-plane the vertebral bodies lie at height z."""
    return float(np.interp(z, _SPINE_Z, _SPINE_Y))


def spine() -> list[Part]:
    outer: list[Part] = []
    inner: list[Part] = []
    outer += tube("disc", [(0, spine_y(z), z) for z in range(90, 660, 15)], 12.0)
    for name, z, half in VERTEBRAE:
        wide = {"L": 23.0, "T": 16.5, "C": 11.0}[name[0]]
        y = spine_y(z)
        deep = 0.74 * wide
        outer.append(Part("cortical bone", Ellipsoid((0, y, z), (wide, deep, half), power=4)))
        inner.append(
            Part("red marrow", Ellipsoid((0, y, z), (wide - 2, deep - 2, half - 2), power=4))
        )
        arch = deep + 15
        outer.append(Part("cortical bone", ball((0, y + arch - 3, z), 13.5)))
        outer.append(Part("cortical bone", Ellipsoid((0, y + arch + 12, z - 5), (4.5, 15.0, 7.5))))
        inner.append(Part("red marrow", Ellipsoid((0, y + arch + 12, z - 5), (2.5, 12.5, 5.5))))
        for side in (-1, 1):
            tip = (side * 1.75 * wide, y + arch + 2, z)
            outer.append(Part("cortical bone", Capsule((side * 8, y + arch, z), tip, 6.0, 4.0)))
    parts = outer + inner
    cord = [
        (0, spine_y(z) + (9 if z > 545 else 13 if z > 250 else 17) + 11, z)
        for z in range(175, 670, 15)
    ]
    return parts + tube("spinal cord", cord, 6.0)


def ribs(cavity: Loft) -> list[Part]:
    """Ten pairs around the thoracic cavity, falling towards the front, and the breastbone."""
    parts: list[Part] = []
    for number in range(10):
        top = 552.0 - 26.5 * number
        fall = 38.0 + 9.0 * min(number, 6)
        angles = np.radians(np.linspace(14, 118 + 4 * (10 - number), 13))
        z = top - fall * (1 - np.cos(angles)) / 2 - 4
        width, depth, _, y0 = cavity.section(z)
        x = (width + 6.5) * np.sin(angles)
        y = y0 + (depth + 6.5) * np.cos(angles)
        for side in (-1, 1):
            points = [
                (float(side * a), float(b), float(c)) for a, b, c in zip(x, y, z, strict=True)
            ]
            parts += tube("rib", points[:11], 5.6)
            gristle = [*points[10:], (side * 16.0, -84.0, float(max(z[-1] + 18, 398)))]
            parts += tube("cartilage", gristle, 5.0)
    parts.append(Part("rib", Ellipsoid((0, -87, 445), (18, 6.5, 62), turned("x", -5), power=4)))
    for side in (-1, 1):
        collar: list[Point] = [(side * 20, -74, 512), (side * 82, -50, 527), (side * 148, 0, 528)]
        parts += tube("rib", collar, 6.5)
        blade = Ellipsoid((side * 112, 66, 465), (40, 5.5, 58), turned("z", side * -28))
        parts.append(Part("rib", blade))
        parts += tube("rib", [(side * 95, 78, 508), (side * 152, 38, 530)], 7.5)
    return parts


def pelvis_and_legs() -> list[Part]:
    outer: list[Part] = []
    inner: list[Part] = []
    sacrum = Ellipsoid((0, 62, 45), (46, 17, 48), turned("x", -24))
    outer.append(Part("cortical bone", sacrum))
    inner.append(Part("red marrow", Ellipsoid((0, 62, 45), (43, 14, 45), turned("x", -24))))
    for side in (-1, 1):
        wing = turned("z", side * 33)
        outer.append(Part("cortical bone", Ellipsoid((side * 92, 28, 82), (11, 58, 62), wing)))
        inner.append(Part("red marrow", Ellipsoid((side * 92, 28, 82), (8, 54, 58), wing)))
        socket: Point = (side * 92, 6, 6)
        outer.append(Part("cortical bone", ball(socket, 36)))
        inner.append(Part("red marrow", ball(socket, 33)))
        for points, radius in (
            ([socket, (side * 55, -38, 12), (side * 12, -46, 0)], 9.0),
            ([socket, (side * 70, 42, -40)], 14.0),
            ([(side * 70, 42, -44), (side * 18, -32, -22)], 8.0),
        ):
            outer += tube("cortical bone", points, radius)
            inner += tube("red marrow", points, radius - 2.5)
        joint: Point = (side * 92, 3, 0)
        neck: list[Point] = [joint, (side * 128, 10, -28)]
        shaft: list[Point] = [(side * 126, 10, -30), (side * 122, 4, -120), (side * 106, 2, -330)]
        inner.append(Part("cartilage", ball(joint, 27)))
        inner.append(Part("cortical bone", ball(joint, 24.5)))
        inner += tube("cortical bone", neck, 14.0) + tube("cortical bone", shaft, [19, 15, 14])
        inner.append(Part("red marrow", ball(joint, 22.5)))
        inner += tube("red marrow", neck, 11.5) + tube("red marrow", shaft[:2], [15, 7.5])
        inner += tube("yellow marrow", shaft[1:], 7.5)
    return outer + inner


def upper_arm(shoulder: Point, elbow: Point, wrist: Point) -> list[Part]:
    """The bones of the left arm; ``arm`` mirrors the points for the right one."""
    return [
        Part("cortical bone", ball(shoulder, 23.5)),
        *tube("cortical bone", [shoulder, elbow], [15.0, 10.5]),
        Part("red marrow", ball(shoulder, 21.0)),
        *tube("yellow marrow", [shoulder, elbow], [10.0, 5.5]),
        *tube("cortical bone", [elbow, wrist], [11.0, 9.0]),
        *tube("yellow marrow", [elbow, wrist], [5.0, 4.0]),
    ]


def both_arms(shoulder: Point, elbow: Point, wrist: Point) -> list[Part]:
    right = (mirrored(shoulder), mirrored(elbow), mirrored(wrist))
    return upper_arm(shoulder, elbow, wrist) + upper_arm(*right)


def skull() -> list[Part]:
    """The bone that the brain is later painted into, and the jaws."""
    parts = [
        Part("cortical bone", Ellipsoid((0, -4, 748), (75, 92, 82))),
        Part("rib", Ellipsoid((0, -4, 748), (72, 89, 79))),
        Part("cortical bone", Ellipsoid((0, -4, 748), (70, 87, 77))),
        Part("cortical bone", Ellipsoid((0, -8, 692), (58, 62, 22), power=4)),
        Part("cortical bone", Ellipsoid((0, -66, 668), (36, 22, 30), power=4)),
    ]
    for side in (-1, 1):
        jaw: list[Point] = [
            (side * 50, -8, 676),
            (side * 47, -22, 630),
            (side * 26, -72, 612),
            (0, -88, 608),
        ]
        parts += tube("cortical bone", jaw, 6.0)
    return parts
