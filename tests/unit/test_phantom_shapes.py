"""The phantom's solids: volumes by counting, boxes, and what wins where they overlap."""

import numpy as np
import pytest

from petct.phantom_shapes import (
    Capsule,
    Common,
    Ellipsoid,
    Loft,
    Part,
    Solid,
    Without,
    ball,
    boxes_of,
    label_points,
    paint,
    pointing,
    turned,
)

AXIS = np.arange(-40.0, 40.5, 1.0)
X, Y, Z = AXIS[None, None, :], AXIS[None, :, None], AXIS[:, None, None]
LOFT = Loft(((-20, 10, 5, 0, 0), (0, 12, 8, 1, 0), (20, 10, 5, 0, 0)), 2.0)


@pytest.mark.parametrize(
    ("solid", "volume"),
    [
        (Ellipsoid((0.3, 0, 0), (20, 12, 8)), 4 / 3 * np.pi * 20 * 12 * 8),
        (Ellipsoid((0, 1, 0), (20, 12, 8), turned("y", 35)), 4 / 3 * np.pi * 20 * 12 * 8),
        # a cylinder of length 30 and two half balls
        (Capsule((0, 0, -15), (0, 0, 15), 9, 9), np.pi * 81 * 30 + 4 / 3 * np.pi * 729),
        (Without(ball((0, 0, 0), 20), ball((0, 0, 0), 10)), 4 / 3 * np.pi * (8000 - 1000)),
        (Common(ball((0, 0, 0), 20), ball((0, 0, 0), 10)), 4 / 3 * np.pi * 1000),
        # an elliptic cylinder
        (Loft(((-20, 10, 5, 0, 0), (20, 10, 5, 0, 0)), 2.0), np.pi * 50 * 41),
    ],
)
def test_volume_by_counting(solid: Solid, volume: float) -> None:
    assert solid.inside(X, Y, Z).sum() == pytest.approx(volume, rel=0.02)


@pytest.mark.parametrize(
    "solid",
    [
        Ellipsoid((3, 2, -1), (20, 12, 8), pointing((1, 2, 3))),
        Ellipsoid((3, 2, -1), (14, 9, 6), turned("z", 30), power=4),
        Capsule((-9, 4, 0), (12, 3, 9), 5, 8),
        LOFT,
    ],
)
def test_box_holds_solid(solid: Solid) -> None:
    low, high = solid.bounds()
    z, y, x = np.nonzero(np.broadcast_to(solid.inside(X, Y, Z), (81, 81, 81)))
    points = np.stack([AXIS[x], AXIS[y], AXIS[z]], axis=1)
    assert (points >= low - 1e-9).all() and (points <= high + 1e-9).all()
    tight = 4.0 if getattr(solid, "power", 2) == 4 else 1.5  # a turned box lies loosely in its box
    assert (points.min(0) < low + tight).all() and (points.max(0) > high - tight).all()


def test_closed_form_volume() -> None:
    assert ball((0, 0, 0), 10).volume_ml() == pytest.approx(4.18879, abs=1e-5)
    with pytest.raises(ValueError, match="only an ellipsoid"):
        Ellipsoid((0, 0, 0), (1, 1, 1), power=4).volume_ml()


def test_pointing_is_a_rotation() -> None:
    matrix = np.reshape(pointing((0.6, -0.5, -0.6)), (3, 3))
    assert matrix @ matrix.T == pytest.approx(np.eye(3))
    assert np.linalg.det(matrix) == pytest.approx(1)
    assert matrix[:, 2] == pytest.approx(np.array([0.6, -0.5, -0.6]) / np.sqrt(0.97))


def test_later_part_wins_on_a_grid_and_at_points() -> None:
    parts = [Part("outer", ball((0, 0, 0), 20)), Part("inner", ball((5, 0, 0), 8))]
    index = {"outer": 1, "inner": 2}
    labels = np.zeros((81, 81, 81), np.uint8)
    paint(parts, index, (AXIS, AXIS, AXIS), labels)
    assert (labels[40, 40, 45], labels[40, 40, 25], labels[0, 0, 0]) == (2, 1, 0)
    points = np.array([[5.0, 0, 0], [-15, 0, 0], [-40, -40, -40]])
    assert label_points(parts, boxes_of(parts), index, points).tolist() == [2, 1, 0]


def test_slabs_do_not_change_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [Part("a", LOFT), Part("b", Ellipsoid((3, 2, -1), (20, 4, 8), turned("x", 20)))]
    pictures = []
    for voxels in (10_000_000, 81 * 81 * 3):
        monkeypatch.setattr("petct.phantom_shapes.SLAB_VOXELS", voxels)
        pictures.append(np.zeros((81, 81, 81), np.uint8))
        paint(parts, {"a": 1, "b": 2}, (AXIS, AXIS, AXIS), pictures[-1])
    assert (pictures[0] == pictures[1]).all()
