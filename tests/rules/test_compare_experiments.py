"""A comparison of few studies whose means can be done in the head."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from compare_experiments import DETECTION_SUFFIXES, compare_experiments, detection_figures
from metrics_tables import SETTINGS, count_lesions, score, write_metrics
from petct.errors import PetctError
from petct.metrics import read_table


def row(
    strategy: str, study: str, dice: float | None, fp: float, lesions: tuple[int, int, int, int]
) -> dict[str, Any]:
    """``lesions``: reference, found, predicted, false. ``dice`` None: a negative study."""
    reference, found, predicted, false = lesions
    return (
        score(study, f"patient-{study[:2]}", dice)
        | {"strategy": strategy, "model": "m", "cohort": "all"}
        | {"predicted_ml": float(predicted), "fp_volume_ml": fp}
        | {"lesions_reference": reference, "lesions_predicted": predicted}
        | count_lesions(found, false)
    )


GOOD = [
    row("good", "p1a", 0.9, 1.0, (4, 3, 5, 2)),
    row("good", "p1b", 0.6, 2.0, (1, 1, 1, 0)),
    row("good", "p2", 0.6, 6.0, (5, 1, 2, 1)),
    row("good", "n1", None, 8.0, (0, 0, 2, 2)),
    row("good", "n2", None, 0.0, (0, 0, 0, 0)),
]
POOR = [{**study, "strategy": "poor", "dice": study["dice"] / 2} for study in GOOD]


def compare(tmp_path: Path, rows: list[dict[str, Any]]) -> pd.DataFrame:
    metrics = write_metrics(tmp_path / "metrics.tsv", pd.DataFrame(rows))
    output = tmp_path / "tables" / "comparison.tsv"
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
    assert good["surface_dice_mean"] == pytest.approx(0.7)
    assert (good["hd95_mm_mean"], good["hd95_mm_n"]) == (4.0, 3)
    assert (good["fn_volume_ml_mean"], good["fn_volume_ml_n"]) == (1.0, 3)
    assert (good["fn_volume_ml_low"], good["fn_volume_ml_high"]) == (1.0, 1.0)
    assert (good["positive_fp_volume_ml_mean"], good["positive_fp_volume_ml_n"]) == (3.0, 3)
    assert good["positive_fp_volume_ml_median"] == 2.0
    assert (good["negative_fp_volume_ml_mean"], good["negative_fp_volume_ml_n"]) == (4.0, 2)
    assert (good["negative_false_alarm_rate"], good["negative_false_alarm_rate_n"]) == (0.5, 2)
    assert (good["lesion_sensitivity"], good["lesion_sensitivity_n"]) == (0.5, 10)
    assert (good["lesion_precision"], good["lesion_precision_n"]) == (0.5, 10)
    assert (good["lesion_f1"], good["lesion_f1_n"]) == (0.5, 20)


def test_each_criterion_has_its_own_figures(tmp_path: Path) -> None:
    """4 reference and 5 predicted lesions, of which so many are found and so many false."""
    counts = {"": (4, 0), "_iou10": (3, 2), "_iou50": (1, 4), "_suvmax": (2, 1)}
    study = row("good", "p1", 0.5, 0.0, (4, 4, 5, 0))
    for suffix, (found, false) in counts.items():
        study |= {f"lesions_found{suffix}": found, f"lesions_false{suffix}": false}
    only = compare(tmp_path, [study]).iloc[0]
    assert set(counts) == set(DETECTION_SUFFIXES)
    assert only["lesion_sensitivity_iou10"] == 0.75
    assert only["lesion_precision_iou10"] == pytest.approx(0.6)
    # Matched one to one, F1 is 2 TP / (reference + predicted).
    assert only["lesion_f1_iou10"] == pytest.approx(6 / 9, abs=1e-6)
    assert only["lesion_f1_iou50"] == pytest.approx(2 / 9, abs=1e-6)
    assert (only["lesion_sensitivity_suvmax"], only["lesion_precision_suvmax"]) == (0.5, 0.8)
    assert only["lesion_f1_suvmax"] == pytest.approx(2 * 0.5 * 0.8 / 1.3, abs=1e-6)
    assert only["lesion_f1_suvmax_n"] == 9


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((2, 4, 3, 6), (0.5, 0.5, 0.5)),
        ((0, 4, 0, 6), (0.0, 0.0, 0.0)),
        ((0, 4, 0, 0), (0.0, math.nan, 0.0)),
        ((0, 0, 0, 6), (math.nan, 0.0, 0.0)),
        ((0, 0, 0, 0), (math.nan, math.nan, math.nan)),
    ],
)
def test_f1_is_0_where_nothing_is_right_and_undefined_without_lesions(
    counts: tuple[int, ...], expected: tuple[float, ...]
) -> None:
    """Found, reference, true and predicted lesions."""
    figures = detection_figures(np.array(counts, float))
    assert figures.tolist() == pytest.approx(expected, nan_ok=True)


def test_volume_and_tlg_agreement_of_positive_studies(tmp_path: Path) -> None:
    """Volumes 1 mL too large and 3 mL too large; negatives, however wrong, do not count."""
    studies = [row("good", name, 0.5, 0.0, (1, 1, 1, 0)) for name in ("p1", "p2")]
    studies[0] |= {"reference_ml": 10.0, "predicted_ml": 11.0}
    studies[1] |= {"reference_ml": 30.0, "predicted_ml": 33.0}
    false_alarm = row("good", "n1", None, 8.0, (0, 0, 2, 2)) | {"predicted_ml": 99.0}
    only = compare(tmp_path, [*studies, false_alarm]).iloc[0]
    assert (only["volume_bias_ml"], only["volume_bias_ml_n"]) == (2.0, 2)
    assert (only["volume_bias_ml_low"], only["volume_bias_ml_high"]) == (1.0, 3.0)
    # The differences 1 and 3 have a standard deviation of sqrt(2).
    assert only["volume_limit_low_ml"] == pytest.approx(2 - 1.959964 * math.sqrt(2), abs=1e-4)
    assert only["volume_limit_high_ml"] == pytest.approx(2 + 1.959964 * math.sqrt(2), abs=1e-4)
    # Covariance 110, variances 121 and 100, squared bias 4.
    assert only["volume_ccc"] == pytest.approx(220 / 225, abs=1e-6)
    # Every study 40 instead of 50: no variance to agree in.
    assert (only["tlg_bias"], only["tlg_ccc"], only["tlg_ccc_n"]) == (-10.0, 0.0, 2)


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
