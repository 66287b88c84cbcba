"""Pairs of experiments on few studies: differences, p and families that can be counted."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from metrics_tables import SETTINGS, score, simulate_metrics, write_metrics
from pair_experiments import COLUMNS, pair_experiments
from petct.errors import PetctError
from petct.metrics import read_table

ONE = ("one_step", "unet", "all")
POSITIVE = ("one_step", "unet", "positive")
ORACLE = ("oracle_boxes", "unet", "all")


def rows_of(
    experiment: tuple[str, str, str], dice: dict[str, float], false_ml: dict[str, float]
) -> list[dict[str, Any]]:
    """Positive studies with their Dice, negative ones with their false volume; "a2": patient a."""
    names = dict(zip(("strategy", "model", "cohort"), experiment, strict=True))
    return [
        *(names | score(study, study[0], value) for study, value in dice.items()),
        *(
            names | score(study, study[0], None) | {"predicted_ml": ml, "fp_volume_ml": ml}
            for study, ml in false_ml.items()
        ),
    ]


COHORTS = [
    *rows_of(ONE, {"a1": 0.5, "a2": 0.3, "b1": 0.6, "c1": 0.4}, {"x1": 0.0, "y1": 6.0}),
    *rows_of(POSITIVE, {"a1": 0.6, "a2": 0.4, "b1": 0.8, "c1": 0.6}, {"x1": 4.0, "y1": 10.0}),
]


def pair(tmp_path: Path, rows: pd.DataFrame | list[dict[str, Any]]) -> pd.DataFrame:
    metrics = write_metrics(tmp_path / "metrics.tsv", pd.DataFrame(rows))
    output = tmp_path / "tables" / "differences.tsv"
    pair_experiments(metrics, SETTINGS, output)
    return read_table(output)


def only(table: pd.DataFrame, **values: Any) -> pd.Series[Any]:
    for column, value in values.items():
        table = table[table[column] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_leaving_out_negatives_by_hand(tmp_path: Path) -> None:
    """Dice gains 0.1, 0.1, 0.2 and 0.2; false volume grows by 4 and 4 mL, one more false alarm."""
    table = pair(tmp_path, COHORTS)
    dice = only(table, question="cohort", level="overall", metric="dice")
    assert (dice["cohort_a"], dice["cohort_b"]) == ("positive", "all")
    assert (dice["mean_a"], dice["mean_b"]) == pytest.approx((0.6, 0.45))
    assert dice["difference"] == pytest.approx(0.15)
    assert (dice["studies"], dice["patients"], dice["patients_differing"]) == (4, 3, 3)
    # Each patient has gained 0.2: all alike, or all flipped, of eight.
    assert dice["p"] == dice["smallest_p"] == 0.25
    # Patient a alone has two studies: the mean is 0.1 of that patient, 0.2 of the others.
    assert (dice["low"], dice["high"]) == pytest.approx((0.1, 0.2))
    assert dice["detectable_difference"] == pytest.approx(0.05 * 1.4294, rel=1e-3)
    volume = only(table, question="cohort", level="overall", metric="negative_fp_volume_ml")
    assert (volume["difference"], volume["studies"], volume["p"]) == (4.0, 2, 0.5)
    alarm = only(table, question="cohort", level="overall", metric="negative_false_alarm_rate")
    assert (alarm["mean_a"], alarm["mean_b"], alarm["difference"]) == (1.0, 0.5, 0.5)
    # One of two patients differs: nothing could have been shown.
    assert (alarm["patients_differing"], alarm["smallest_p"]) == (1, 1.0)
    missed = only(table, question="cohort", level="overall", metric="fn_volume_ml")
    assert (missed["difference"], missed["p"], missed["patients_differing"]) == (0.0, 1.0, 0)


def test_columns_and_order(tmp_path: Path) -> None:
    table = pair(tmp_path, COHORTS)
    assert table.columns.tolist() == COLUMNS
    assert table["metric"].unique().tolist() == [
        "dice",
        "fn_volume_ml",
        "negative_fp_volume_ml",
        "negative_false_alarm_rate",
    ]
    assert table["question"].unique().tolist() == ["cohort", "best"]


def test_a_pool_averages_its_pairs_study_by_study(tmp_path: Path) -> None:
    """UNETR loses what U-Net gains: no difference in any study of the mean of both."""
    mirrored = [
        row | {"model": "unetr", "cohort": {"all": "positive", "positive": "all"}[row["cohort"]]}
        for row in COHORTS
    ]
    table = pair(tmp_path, [*COHORTS, *mirrored])
    overall = only(table, question="cohort", level="overall", metric="dice")
    assert (overall["model_a"], overall["pairs"]) == ("pooled", 2)
    assert overall["difference"] == pytest.approx(0.0, abs=1e-9)
    assert (overall["patients_differing"], overall["p"]) == (0, 1.0)
    models = table[(table["level"] == "model") & (table["metric"] == "dice")]
    models = models[models["question"] == "cohort"]
    assert models["difference"].tolist() == pytest.approx([0.15, -0.15])
    # Two tests of p = 0.25.
    assert models["family"].tolist() == [2, 2]
    assert models["p_adjusted"].tolist() == [0.5, 0.5]


def test_best_is_corrected_for_all_pairs_that_it_was_chosen_from(tmp_path: Path) -> None:
    table = simulate_metrics(
        [("one_step", name, "all", 0.1 * i + 0.3) for i, name in enumerate("abcd")],
        12,
        4,
        16,
        np.random.default_rng(0),
    )
    best = pair(tmp_path, table)
    best = best[(best["question"] == "best") & (best["metric"] == "dice")]
    assert best["model_a"].tolist() == ["d"] * 3
    assert best["model_b"].tolist() == ["a", "b", "c"]
    assert (best["difference"] > 0).all()
    assert best["family"].tolist() == [6] * 3
    assert (best["p_adjusted"] >= best["p"]).all()


def test_an_upper_bound_is_not_the_best(tmp_path: Path) -> None:
    table = pair(tmp_path, [*COHORTS, *rows_of(ORACLE, {"a1": 1.0, "a2": 1.0, "b1": 1.0}, {})])
    best = table[table["question"] == "best"]
    assert set(best["cohort_a"]) == {"positive"}
    assert "oracle_boxes" not in set(best["strategy_b"])


def test_only_shared_studies_count(tmp_path: Path) -> None:
    table = pair(tmp_path, [row for row in COHORTS if row["study"] != "c1"] + [COHORTS[3]])
    dice = only(table, question="cohort", level="overall", metric="dice")
    assert (dice["studies"], dice["patients"]) == (3, 2)
    assert (dice["mean_a"], dice["mean_b"]) == pytest.approx((0.6, 1.4 / 3))


def test_without_negatives_there_is_nothing_of_them(tmp_path: Path) -> None:
    table = pair(tmp_path, [row for row in COHORTS if row["positive"]])
    assert set(table["metric"]) == {"dice", "fn_volume_ml"}


def test_without_positives_there_is_no_best(tmp_path: Path) -> None:
    table = pair(tmp_path, [row for row in COHORTS if not row["positive"]])
    assert set(table["metric"]) == {"negative_fp_volume_ml", "negative_false_alarm_rate"}
    assert set(table["question"]) == {"cohort"}


def test_one_patient_has_a_difference_and_no_interval(tmp_path: Path) -> None:
    table = pair(tmp_path, [row for row in COHORTS if row["patient"] == "a"])
    dice = only(table, question="cohort", level="overall", metric="dice")
    assert (dice["difference"], dice["p"], dice["smallest_p"]) == pytest.approx((0.1, 1.0, 1.0))
    assert math.isnan(dice["low"])
    assert math.isnan(dice["detectable_difference"])


def test_one_experiment_has_no_pairs(tmp_path: Path) -> None:
    table = pair(tmp_path, COHORTS[:6])
    assert table.empty
    assert table.columns.tolist() == COLUMNS


def test_repeats_itself(tmp_path: Path) -> None:
    rows = simulate_metrics([(*ONE, 0.5), (*POSITIVE, 0.6)], 19, 9, 25, np.random.default_rng(1))
    first, second = pair(tmp_path, rows), pair(tmp_path, rows.iloc[::-1])
    # Nor does the order of the rows matter.
    pd.testing.assert_frame_equal(first, second)


def test_no_rows(tmp_path: Path) -> None:
    with pytest.raises(PetctError, match="no rows"):
        pair(tmp_path, pd.DataFrame(columns=list(COHORTS[0])))
