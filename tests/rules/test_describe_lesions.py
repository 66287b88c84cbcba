"""Figures of two lesions that can be counted by hand, and every reason to look at a study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from applied_studies import (
    GRID,
    LARGE,
    SETTINGS,
    SHAPE,
    SMALL,
    Applied,
    lesion_mask,
    make_applied,
    make_excluded,
)
from describe_lesions import calibrate, describe_lesions, mean_dice
from petct.image_files import load_volume
from petct.manifests import read_json

VOXEL_ML = 4 * 4 * 5 / 1000


def describe(applied: Applied, folder: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    output = folder / "described/study.json"
    describe_lesions(
        applied.converted, applied.resampled, applied.predictions, applied.package, SETTINGS, output
    )
    return read_json(output), pd.read_csv(output.with_name("lesions.tsv"), sep="\t")


def test_two_lesions(tmp_path: Path) -> None:
    told, table = describe(make_applied(tmp_path), tmp_path)
    assert (told["lesions"], told["patient"], told["look"]) == (2, "P1", [])
    assert told["mtv_ml"] == pytest.approx(9 * VOXEL_ML)
    assert told["tlg"] == pytest.approx((8 * 6 + 9) * VOXEL_ML)
    assert told["suv_max"] == 9.0
    large, small = table.to_dict("records")
    assert large["volume_ml"] == pytest.approx(8 * VOXEL_ML)
    assert (large["suv_max"], large["suv_mean"]) == (6.0, 6.0)
    assert (small["suv_max"], small["volume_ml"]) == (9.0, pytest.approx(VOXEL_ML))
    # Centroids: x of 12.5 voxels of 4 mm from -30 mm; the body's middle is at 2 to 13, so 7.5.
    assert (large["x_mm"], large["y_mm"], large["z_mm"]) == (20.0, 2.0, 112.5)
    assert (large["side"], small["side"]) == ("left", "right")
    # The body's highest slice is the tenth.
    assert large["below_top_mm"] == pytest.approx(37.5)
    apart = np.linalg.norm([(12.5 - 2) * 4, (5.5 - 5) * 4, (2.5 - 9) * 5])
    assert told["largest_distance_mm"] == pytest.approx(apart)
    # 0.75 lies half-way between 0.5, which means 0.25, and 1, which means 0.75.
    assert large["probability_mean"] == pytest.approx(0.5, abs=1e-3)
    assert told["probability"] == pytest.approx(0.5, abs=1e-3)
    numbers, grid = load_volume(tmp_path / "described/numbers.nii.gz")
    assert grid == GRID and (numbers[LARGE] == 1).all() and numbers[SMALL] == 2
    assert np.count_nonzero(numbers) == 9
    probability, _ = load_volume(tmp_path / "described/probability.nii.gz")
    assert probability[SMALL] == pytest.approx(0.75, abs=1e-3)


def test_no_lesion_is_a_result(tmp_path: Path) -> None:
    empty = np.zeros(SHAPE, np.uint8)
    told, table = describe(make_applied(tmp_path, [empty, empty]), tmp_path)
    assert (told["lesions"], told["mtv_ml"], told["tlg"]) == (0, 0.0, 0.0)
    assert told["suv_max"] is None and told["largest_distance_mm"] is None
    # Both saw nothing, and so agree.
    assert told["fold_dice"] == 1.0 and told["look"] == []
    assert table.empty and "suv_peak" in table.columns


def test_networks_that_disagree_are_a_reason_to_look(tmp_path: Path) -> None:
    alone = lesion_mask()
    alone[SMALL] = 0
    told, table = describe(make_applied(tmp_path, [lesion_mask(), alone]), tmp_path)
    assert told["fold_dice"] == pytest.approx(2 * 8 / 17)
    assert table["folds_agreeing"].tolist() == [2, 1]
    assert told["look"] == ["no more than half of the networks see lesion 2"]
    nothing = np.zeros(SHAPE, np.uint8)
    told, _ = describe(make_applied(tmp_path / "b", [lesion_mask(), nothing]), tmp_path / "b")
    assert told["look"][0] == (
        "the folds' networks disagree: mean Dice of their masks 0.00, expected 0.7 or more"
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"suv_max": 26.0}, "its maximum SUV is 26; in the dataset 5 to 20"),
        ({"suv_max": 3.9}, "its maximum SUV is 3.9; in the dataset 5 to 20"),
        (
            {"pet": {"spacing_xyz_mm": [4.0, 4.0, 7.0], "direction": [1, 0, 0, 0, 1, 0, 0, 0, 1]}},
            "its PET's voxels are 7 mm along z; in the dataset 5 to 5",
        ),
        (
            {"pet": {"spacing_xyz_mm": [4, 4, 5], "direction": [-1, 0, 0, 0, -1, 0, 0, 0, 1]}},
            "its PET is stored the other way round along x, y: the networks were not made for that",
        ),
        ({"ct": {"covers_pet_share": 0.0}}, "there is no CT"),
        (
            {"ct": {"covers_pet_share": 0.4}},
            "the CT covers 40 % of the PET; in the dataset 60 to 90 %",
        ),
    ],
)
def test_what_the_networks_have_not_seen_is_a_reason_to_look(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    told, _ = describe(make_applied(tmp_path, **change), tmp_path)
    assert told["look"] == [reason]


def test_a_study_that_was_left_out_keeps_its_reason(tmp_path: Path) -> None:
    applied = make_excluded(tmp_path)
    output = tmp_path / "study.json"
    describe_lesions(
        applied.converted, applied.resampled, applied.predictions, applied.package, SETTINGS, output
    )
    assert read_json(output) == {
        "study": "study-1", "patient": "P1", "status": "excluded", "reason": "the PET is empty",
    }  # fmt: skip


def test_agreement_is_the_mean_over_pairs() -> None:
    one, two = np.array([1, 1, 0, 0], bool), np.array([1, 0, 0, 0], bool)
    assert mean_dice([one, two, two]) == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert np.isnan(mean_dice([one]))


def test_without_a_curve_probabilities_stay() -> None:
    given = np.array([0.2, 0.9], np.float32)
    assert calibrate(given, []) is given
