"""A comparison of few studies whose means can be done in the head."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from compare_experiments import compare_experiments
from petct.errors import PetctError
from petct.metrics import read_table

SETTINGS = {"bootstrap_samples": 500, "seed": 20, "confidence": 0.95}


def row(
    strategy: str, study: str, dice: float | None, fp: float, lesions: tuple[int, int, int, int]
) -> dict[str, Any]:
    """``lesions``: reference, found, predicted, false. ``dice`` None: a negative study."""
    reference, found, predicted, false = lesions
    positive = dice is not None
    return {
        "dataset": "test",
        "study": study,
        "patient": f"patient-{study[:2]}",
        "fold": 0,
        "strategy": strategy,
        "model": "m",
        "cohort": "all",
        "positive": positive,
        "reference_ml": 10.0 if positive else 0.0,
        "predicted_ml": float(predicted),
        "dice": math.nan if dice is None else dice,
        "fp_volume_ml": fp,
        "fn_volume_ml": 1.0 if positive else math.nan,
        "lesions_reference": reference,
        "lesions_found": found,
        "lesions_predicted": predicted,
        "lesions_false": false,
    }


GOOD = [
    row("good", "p1a", 0.9, 1.0, (4, 3, 5, 2)),
    row("good", "p1b", 0.6, 2.0, (1, 1, 1, 0)),
    row("good", "p2", 0.6, 6.0, (5, 1, 2, 1)),
    row("good", "n1", None, 8.0, (0, 0, 2, 2)),
    row("good", "n2", None, 0.0, (0, 0, 0, 0)),
]
POOR = [{**study, "strategy": "poor", "dice": study["dice"] / 2} for study in GOOD]


def compare(tmp_path: Path, rows: list[dict[str, Any]]) -> pd.DataFrame:
    metrics, output = tmp_path / "metrics.tsv", tmp_path / "tables" / "comparison.tsv"
    pd.DataFrame(rows).to_csv(metrics, sep="\t", index=False, na_rep="nan")
    compare_experiments(metrics, SETTINGS, output)
    return read_table(output)


def test_figures(tmp_path: Path) -> None:
    table = compare(tmp_path, [*POOR, *GOOD])
    assert table["strategy"].tolist() == ["good", "poor"]
    good = table.iloc[0]
    assert (good["studies"], good["patients"]) == (5, 4)
    assert good["dice_mean"] == pytest.approx(0.7)
    assert good["dice_median"] == pytest.approx(0.6)
    assert good["dice_n"] == 3
    # Two positive patients, with a mean of 0.75 over two studies and 0.6 over one.
    assert (good["dice_low"], good["dice_high"]) == pytest.approx((0.6, 0.75))
    assert (good["fn_volume_ml_mean"], good["fn_volume_ml_n"]) == (1.0, 3)
    assert (good["fn_volume_ml_low"], good["fn_volume_ml_high"]) == (1.0, 1.0)
    assert (good["positive_fp_volume_ml_mean"], good["positive_fp_volume_ml_n"]) == (3.0, 3)
    assert good["positive_fp_volume_ml_median"] == 2.0
    assert (good["negative_fp_volume_ml_mean"], good["negative_fp_volume_ml_n"]) == (4.0, 2)
    assert (good["negative_false_alarm_rate"], good["negative_false_alarm_rate_n"]) == (0.5, 2)
    assert (good["lesion_sensitivity"], good["lesion_sensitivity_n"]) == (0.5, 10)
    assert (good["lesion_precision"], good["lesion_precision_n"]) == (0.5, 10)


def test_experiments_share_their_resamples(tmp_path: Path) -> None:
    """Half the Dice in every study is half the interval's bounds, to the last digit written."""
    good, poor = compare(tmp_path, [*POOR, *GOOD]).to_dict("records")
    assert poor["dice_low"] == pytest.approx(good["dice_low"] / 2)
    assert poor["dice_high"] == pytest.approx(good["dice_high"] / 2)


def test_one_patient_has_a_mean_and_no_interval(tmp_path: Path) -> None:
    only = compare(tmp_path, GOOD[:2]).iloc[0]
    assert only["dice_mean"] == pytest.approx(0.75)
    assert math.isnan(only["dice_low"])
    assert math.isnan(only["dice_high"])


def test_without_negatives_their_figures_are_undefined(tmp_path: Path) -> None:
    only = compare(tmp_path, GOOD[:3]).iloc[0]
    assert only["negative_false_alarm_rate_n"] == only["negative_fp_volume_ml_n"] == 0
    assert math.isnan(only["negative_false_alarm_rate"])
    assert math.isnan(only["negative_fp_volume_ml_mean"])


def test_without_positives_dice_is_undefined_and_comes_last(tmp_path: Path) -> None:
    table = compare(tmp_path, [*POOR[3:], *GOOD])
    assert table["strategy"].tolist() == ["good", "poor"]
    assert math.isnan(table["dice_mean"][1])
    assert table["dice_n"][1] == 0


def test_printed_table_has_denominators(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compare(tmp_path, GOOD)
    printed = capsys.readouterr().out
    line = next(line for line in printed.splitlines() if line.startswith("good"))
    assert "0.700 (0.60 to 0.75)" in line
    assert "5 of 10" in line
    assert "1 of 2" in line
    assert "note:" not in printed


def test_an_experiment_with_fewer_studies_is_pointed_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compare(tmp_path, [*GOOD, *POOR[:2]])
    assert "note: poor / m / all was scored on 2 of 5 studies" in capsys.readouterr().out


def test_repeats_itself(tmp_path: Path) -> None:
    compare(tmp_path, GOOD)
    first = (tmp_path / "tables" / "comparison.tsv").read_bytes()
    compare(tmp_path, GOOD)
    assert (tmp_path / "tables" / "comparison.tsv").read_bytes() == first


def test_no_rows(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.tsv"
    pd.DataFrame(columns=list(GOOD[0])).to_csv(metrics, sep="\t", index=False)
    with pytest.raises(PetctError, match="no rows"):
        compare_experiments(metrics, SETTINGS, tmp_path / "comparison.tsv")
