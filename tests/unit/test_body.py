"""The body's box, for a block of water in air."""

import numpy as np

from petct.body import find_body_box
from petct.grids import Grid

GRID = Grid((60, 60, 60), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))


def air() -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((60, 60, 60), np.float32), np.full((60, 60, 60), -1000, np.int16)


def test_box_is_the_block_and_its_margin() -> None:
    suv, ct_hu = air()
    ct_hu[10:40, 20:50, 15:45] = 0
    box = find_body_box(suv, ct_hu, GRID, ct_above_hu=-500, suv_above=0.15, margin_mm=8)
    assert box == (slice(8, 42), slice(18, 52), slice(13, 47))


def test_an_arm_that_only_the_pet_shows_is_inside() -> None:
    suv, ct_hu = air()
    ct_hu[10:40, 20:40, 20:40] = 0
    suv[10:40, 25:32, 48:54] = 0.5
    box = find_body_box(suv, ct_hu, GRID, ct_above_hu=-500, suv_above=0.15, margin_mm=0)
    assert box is not None
    assert box[2].stop >= 54


def test_the_tables_rail_is_left_out() -> None:
    suv, ct_hu = air()
    ct_hu[10:40, 20:40, 20:40] = 0
    ct_hu[:, 55:58, 20:40] = 100
    box = find_body_box(suv, ct_hu, GRID, ct_above_hu=-500, suv_above=0.15, margin_mm=0)
    assert box is not None
    assert box[1].stop <= 41


def test_no_body_in_air_and_noise() -> None:
    suv, ct_hu = air()
    suv += np.random.default_rng(0).random(suv.shape).astype(np.float32) * 0.1
    assert find_body_box(suv, ct_hu, GRID, ct_above_hu=-500, suv_above=0.15, margin_mm=8) is None
