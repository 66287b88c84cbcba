"""The report's tables: what a cell says, what sorts it, what is bold."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from petct.report_tables import (
    AGREEMENT_FIGURES,
    COMPARISON_FIGURES,
    LESION_FIGURES,
    Cell,
    Table,
    decimals,
    differences_table,
    excluded_table,
    experiment_table,
    folds_table,
    mark_best,
    p_value,
    range_of,
    reasons_table,
    regions_table,
    span,
    warned_table,
    warnings_table,
)
from report_runs import Experiments, make_scores, make_tables

EXPERIMENTS: Experiments = {
    ("one_step", "unet", "all"): (0.6, 0.0),
    ("one_step", "other", "positive"): (0.4, 250.0),
    ("threshold", "suv", "none"): (0.1, 900.0),
}


@pytest.fixture
def tables(tmp_path: Path) -> dict[str, pd.DataFrame]:
    tables = make_tables(tmp_path, make_scores(EXPERIMENTS, 10, 4))
    summary = tables["calibration_summary"].drop(columns=["studies", "patients"])
    keys = ["strategy", "model", "cohort"]
    return {**tables, "comparison": tables["comparison"].merge(summary, on=keys, how="left")}


def column(table: Table, title: str, unit: str = "") -> list[Cell]:
    places = [i for i, c in enumerate(table.columns) if (c.title, c.unit) == (title, unit)]
    return [row.cells[places[0]] for row in table.rows]


def test_numbers() -> None:
    assert [decimals(v, 1) for v in (1.25, -1.0, -0.01, math.nan)] == ["1.2", "−1.0", "0.0", "–"]
    assert span(-0.1, 0.2, 1) == "−0.1 to 0.2"
    assert span(math.nan, 0.2, 1) == ""
    # A dash between two numbers would be read as a minus.
    assert [range_of(0.1, 0.2, 1), range_of(-0.1, 0.2, 1)] == ["0.1–0.2", "−0.1 to 0.2"]
    assert [p_value(p) for p in (0.0001, 0.0214, 0.5, math.nan)] == [
        "< 0.001",
        "0.021",
        "0.50",
        "–",
    ]


def test_every_mean_has_its_denominator(tables: dict[str, pd.DataFrame]) -> None:
    table = experiment_table("", tables["comparison"], COMPARISON_FIGURES, ["threshold"])
    assert [cell.text for cell in column(table, "Model")] == ["unet", "other", "suv"]
    dice = column(table, "Dice", "positives")
    # Ten studies, off by -0.02 to 0.02 alike.
    assert [cell.text for cell in dice] == ["0.60", "0.40", "0.10"]
    assert [cell.count for cell in dice] == ["n\u00a010"] * 3
    assert dice[0].note.startswith("0.") and "–" in dice[0].note
    found = column(table, "Lesions found")
    assert [cell.text for cell in found] == ["10 of 20"] * 3
    assert found[0].note == "0.50 (0.50–0.50)"
    assert [c.text for c in column(table, "False alarms", "negatives")] == [
        "0 of 4", "4 of 4", "4 of 4"
    ]  # fmt: skip
    assert [c.text for c in column(table, "False", "mL, negatives")] == ["0.0", "250", "900"]
    ece = column(table, "ECE", "where suspected")
    assert [cell.count for cell in ece] == ["n\u00a012\u202f345"] * 2 + [""]
    assert ece[2] == Cell("–")


def test_the_best_network_is_bold_and_a_threshold_never(tables: dict[str, pd.DataFrame]) -> None:
    table = experiment_table("", tables["comparison"], COMPARISON_FIGURES, ["threshold"])
    assert [row.quiet for row in table.rows] == [False, False, True]
    assert [cell.best for cell in column(table, "Dice", "positives")] == [True, False, False]
    # What looks at the reference is no rival either; alone, nobody is best.
    bound = experiment_table("", tables["comparison"].assign(strategy="oracle"), [], ["oracle"])
    assert all(row.quiet for row in bound.rows)
    # Of a tie, both are bold.
    assert [cell.best for cell in column(table, "Lesions found")] == [True, True, False]


def test_nothing_is_bold_without_a_rival() -> None:
    cells = [Cell("1", key=1.0), Cell("–")]
    assert mark_best(cells, [False, False], "high") == cells
    assert mark_best([*cells, Cell("2", key=2.0)], [False, False, False], "") == [
        *cells, Cell("2", key=2.0)
    ]  # fmt: skip


def test_groups_of_columns(tables: dict[str, pd.DataFrame]) -> None:
    lesions = experiment_table("", tables["comparison"], LESION_FIGURES, ["threshold"])
    assert [width for _, width in lesions.groups] == [3, 3, 3, 3, 3]
    assert lesions.groups[0][0] == ""
    agreement = experiment_table("", tables["comparison"], AGREEMENT_FIGURES, ["threshold"])
    # 6 + 1 mL predicted of 10 mL; all alike, so that the limits meet.
    assert [cell.text for cell in column(agreement, "Bias", "mL")] == ["−3.0"] * 3
    assert [cell.text for cell in column(agreement, "Bias", "g")] == ["−20.0"] * 3
    assert column(agreement, "Limits of agreement", "mL")[0].text == "−3 to −3"
    assert experiment_table("", tables["comparison"], [], ["threshold"]).groups == []


def test_a_row_of_paired_comparisons_holds_all_figures(tables: dict[str, pd.DataFrame]) -> None:
    differences = tables["differences"]
    best = differences[differences["question"] == "best"]
    table = differences_table("", best, 0.05)
    assert len(table.rows) == 2
    assert {len(row.cells) for row in table.rows} == {len(table.columns)}
    row = next(row for row in table.rows if row.cells[1].text == "other")
    assert row.cells[0] == Cell("unet", note="one_step · all", key="unet one_step · all")
    # 0.6 less 0.4 in ten studies is beyond chance; 0 less 250 mL in four cannot be.
    assert (row.cells[3].text, row.cells[3].best) == ("0.20", True)
    difference = table.columns.index(
        next(c for c in table.columns if c.group == "false mL, negatives")
    )
    assert (row.cells[difference].text, row.cells[difference].best) == ("−250.0", False)


def test_a_pool_is_named_and_a_missing_figure_is_a_dash(tables: dict[str, pd.DataFrame]) -> None:
    row = tables["differences"].iloc[[0]].assign(
        metric="fn_volume_ml", model_a="pooled", strategy_a="pooled", cohort_b="pooled", pairs=3
    )  # fmt: skip
    (only,) = differences_table("", row, 0.05).rows
    assert only.cells[0].text == "all models"
    assert only.cells[0].note.startswith("all strategies · ")
    assert only.cells[1].note.endswith("all cohorts")
    assert only.cells[2].text == "3"
    assert only.cells[3] == only.cells[4] == only.cells[5] == Cell("–")


def test_boxes(tables: dict[str, pd.DataFrame]) -> None:
    (row,) = regions_table(tables["regions"]).rows
    assert [cell.text for cell in row.cells] == [
        "unet", "boxes", "all", "1 of 6", "2.5", "10 %", "2.0", "1 of 2"
    ]  # fmt: skip
    assert regions_table(tables["regions"].iloc[:0]).rows == []


def test_folds_and_excluded(tables: dict[str, pd.DataFrame]) -> None:
    studies = tables["metrics"].drop_duplicates("study")
    table = folds_table(studies.rename(columns={"lesions_reference": "lesions"}))
    assert [[cell.text for cell in row.cells] for row in table.rows] == [
        ["fold 0", "7", "7", "5", "2", "10", "50"],
        ["fold 1", "7", "7", "5", "2", "10", "50"],
        ["all folds", "14", "14", "10", "4", "20", "100"],
    ]
    excluded = pd.DataFrame(
        [{"study": "007", "patient": "NA", "step": "index", "reason": "no PET", "file": "x/y"}]
    )
    assert [cell.text for cell in excluded_table(excluded).rows[0].cells] == [
        "007", "NA", "index", "no PET", "x/y"
    ]  # fmt: skip


def test_a_file_is_shown_without_its_folder() -> None:
    # A column of numbers alone is read as numbers.
    names = ["/data/ann/IM1", "PT/IM1", "", 17]
    assert [
        excluded_table(
            pd.DataFrame([{"study": "a", "patient": "", "step": "", "reason": "", "file": name}])
        ).rows[0].cells[4].text
        for name in names
    ] == ["IM1", "PT/IM1", "", "17"]  # fmt: skip


def test_exclusions_are_counted_by_step_and_kind() -> None:
    excluded = pd.DataFrame(
        [
            ("a", "index", "no PT series (found: CT 3 file(s))"),
            ("b", "convert", "a gap of 7.5 mm"),
            ("c", "convert", "a gap of 6 mm"),
            ("", "index", "damaged"),
            ("", "index", "damaged"),
        ],
        columns=["study", "step", "reason"],
    ).assign(patient="", file=["f", "g", "h", "i", "j"])
    assert [[cell.text for cell in row.cells] for row in reasons_table(excluded).rows] == [
        ["2 of 5", "convert", "a gap of 6 to 7.5 mm"],
        ["2 of 5", "index", "damaged"],
        ["1 of 5", "index", "no PT series (found: CT 3 file(s))"],
    ]
    assert reasons_table(excluded[:0]).rows == excluded_table(excluded[:0]).rows == []


def test_warnings_are_counted_by_kind_and_shown_by_study(tables: dict[str, pd.DataFrame]) -> None:
    studies = tables["studies"].iloc[:4].assign(
        warnings=["covers 70.5 % of it; no label", "covers 9 % of it", "", "no label"],
        ct_covers_pet_share=[0.71, 0.09, 1.0, 1.0],
        autopet_ratio_low=[0.62, 1.0, 1.0, math.nan],
        autopet_ratio_high=[0.65, 1.0, 1.0, math.nan],
    )  # fmt: skip
    assert [[cell.text for cell in row.cells] for row in warnings_table(studies).rows] == [
        ["2 of 4", "covers 9 to 70.5 % of it"],
        ["2 of 4", "no label"],
    ]
    table = warned_table(studies)
    assert [cell.text for cell in column(table, "Study")] == [
        "positive-00", "positive-01", "positive-03"
    ]  # fmt: skip
    assert [cell.text for cell in column(table, "SUV ×", "AutoPET's")] == [
        "0.620–0.650", "1.000", "–"
    ]  # fmt: skip
    assert [cell.text for cell in column(table, "CT covers", "% of the PET")] == ["71", "9", "100"]
    # The farthest from 1 sorts highest, on either side; what is not known stays last.
    assert [cell.key for cell in column(table, "SUV ×", "AutoPET's")] == [0.38, 0.0, None]
    none = studies.assign(warnings="")
    assert warnings_table(none).rows == warned_table(none).rows == []
