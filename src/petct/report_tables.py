"""The report's tables: which figure stands in which column, as text and as what sorts it."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

import pandas as pd

from petct.comparisons import POOLED
from petct.message_kinds import count_kinds
from petct.metrics import EXPERIMENT_COLUMNS
from petct.plots import BASELINE_STRATEGY

Row = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """``text`` with ``count``, its denominator, beside and ``note`` beneath it in small print.

    ``key`` is what sorting compares; None, for what is undefined, stays last.
    """

    text: str
    count: str = ""
    note: str = ""
    key: float | str | None = None
    best: bool = False


@dataclass(frozen=True)
class Column:
    """A column's title and, in small print, its unit; columns of one ``group`` share a title.

    ``high_first``: the first click puts the highest on top. ``prose``: sentences, which wrap.
    """

    title: str
    unit: str = ""
    group: str = ""
    numeric: bool = True
    high_first: bool = False
    prose: bool = False


@dataclass(frozen=True)
class TableRow:
    cells: list[Cell]
    quiet: bool = False


@dataclass(frozen=True)
class Table:
    caption: str
    columns: list[Column]
    rows: list[TableRow]

    @property
    def groups(self) -> list[tuple[str, int]]:
        """The titles above the columns' titles and how many columns each spans; [] without any."""
        spans: list[tuple[str, int]] = []
        for column in self.columns:
            if spans and spans[-1][0] == column.group:
                spans[-1] = (column.group, spans[-1][1] + 1)
            else:
                spans.append((column.group, 1))
        return spans if any(title for title, _ in spans) else []


@dataclass(frozen=True)
class Figure:
    """A column and how a row of a table of experiments fills it.

    ``better``: "high" or "low", for which the best network is set in bold, or "".
    """

    column: Column
    fill: Callable[[Row], Cell]
    better: str = ""


def rows_of(table: pd.DataFrame) -> list[Row]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def decimals(value: float, digits: int) -> str:
    """``value`` with ``digits`` decimals and a true minus sign; a dash where it is undefined."""
    if math.isnan(value):
        return "–"
    text = f"{value:.{digits}f}"
    return text.replace("-", "−") if float(text) else text.lstrip("-")


def span(low: float, high: float, digits: int) -> str:
    """An interval in words, "" where it is undefined."""
    if math.isnan(low) or math.isnan(high):
        return ""
    return f"{decimals(low, digits)} to {decimals(high, digits)}"


def range_of(low: float, high: float, digits: int) -> str:
    """An interval as short as a table needs it, "" where it is undefined."""
    text = span(low, high, digits)
    return text if low < 0 else text.replace(" to ", "–")


def p_value(p: float) -> str:
    """A p with what is worth reading of its digits."""
    if math.isnan(p):
        return "–"
    if p < 0.001:
        return "< 0.001"
    return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def text_cell(text: str) -> Cell:
    return Cell(text, key=text)


def number_cell(value: float, digits: int) -> Cell:
    return Cell(decimals(value, digits), key=None if math.isnan(value) else value)


def estimate_cell(row: Row, value: str, name: str, digits: int) -> Cell:
    """The figure ``row[value]`` with the interval and the n of ``name``."""
    if not row[f"{name}_n"] or math.isnan(row[value]):
        return Cell("–")
    if abs(row[value]) >= 100:
        digits = 0
    return Cell(
        decimals(row[value], digits),
        f"n\u00a0{row[f'{name}_n']:,.0f}".replace(",", "\u202f"),
        range_of(row[f"{name}_low"], row[f"{name}_high"], digits),
        float(row[value]),
    )


def mean_of(name: str, digits: int) -> Callable[[Row], Cell]:
    return lambda row: estimate_cell(row, f"{name}_mean", name, digits)


def ratio_of(name: str, digits: int) -> Callable[[Row], Cell]:
    return lambda row: estimate_cell(row, name, name, digits)


def share_of(name: str) -> Callable[[Row], Cell]:
    """A share as "x of n", its value and interval beneath."""

    def fill(row: Row) -> Cell:
        whole = row[f"{name}_n"]
        if not whole or math.isnan(row[name]):
            return Cell("–")
        interval = range_of(row[f"{name}_low"], row[f"{name}_high"], 2)
        value = decimals(row[name], 2)
        return Cell(
            f"{round(row[name] * whole)} of {whole:.0f}",
            note=f"{value} ({interval})" if interval else value,
            key=float(row[name]),
        )

    return fill


EXPERIMENT_FIGURES = [
    Figure(Column("Model", numeric=False), lambda row: text_cell(row["model"])),
    Figure(Column("Strategy", numeric=False), lambda row: text_cell(row["strategy"])),
    Figure(
        Column("Trained on", numeric=False),
        lambda row: text_cell("–" if row["strategy"] == BASELINE_STRATEGY else row["cohort"]),
    ),
]

COMPARISON_FIGURES = [
    Figure(Column("Dice", "positives", high_first=True), mean_of("dice", 2), "high"),
    Figure(
        Column("Surface Dice", "positives", high_first=True), mean_of("surface_dice", 2), "high"
    ),
    Figure(Column("HD95", "mm, positives"), mean_of("hd95_mm", 0), "low"),
    Figure(Column("Lesions found", high_first=True), share_of("lesion_sensitivity"), "high"),
    Figure(
        Column("Precision", "lesions", high_first=True), ratio_of("lesion_precision", 2), "high"
    ),
    Figure(Column("F1", "lesions", high_first=True), ratio_of("lesion_f1", 2), "high"),
    Figure(Column("Missed", "mL, positives"), mean_of("fn_volume_ml", 1), "low"),
    Figure(Column("False", "mL, positives"), mean_of("positive_fp_volume_ml", 1), "low"),
    Figure(Column("False alarms", "negatives"), share_of("negative_false_alarm_rate"), "low"),
    Figure(Column("False", "mL, negatives"), mean_of("negative_fp_volume_ml", 1), "low"),
    Figure(Column("ECE", "where suspected"), ratio_of("ece_suspected", 2), "low"),
]

CRITERIA = {
    "any shared voxel": "",
    "IoU ≥ 0.1, one to one": "_iou10",
    "IoU ≥ 0.5, one to one": "_iou50",
    "SUVmax inside": "_suvmax",
}

LESION_FIGURES = [
    Figure(replace(column, group=title), fill(f"lesion_{name}{suffix}"), "high")
    for title, suffix in CRITERIA.items()
    for column, name, fill in (
        (Column("Found", high_first=True), "sensitivity", share_of),
        (Column("Precision", high_first=True), "precision", lambda name: ratio_of(name, 2)),
        (Column("F1", high_first=True), "f1", lambda name: ratio_of(name, 2)),
    )
]


def bias_of(name: str, unit: str) -> Callable[[Row], Cell]:
    return lambda row: estimate_cell(row, f"{name}_bias{unit}", f"{name}_bias{unit}", 1)


def limits_of(name: str, unit: str) -> Callable[[Row], Cell]:
    """The limits of agreement, sorted by how far they are apart."""

    def fill(row: Row) -> Cell:
        low, high = row[f"{name}_limit_low{unit}"], row[f"{name}_limit_high{unit}"]
        text = span(low, high, 0)
        return Cell(text, key=float(high - low)) if text else Cell("–")

    return fill


AGREEMENT_FIGURES = [
    Figure(replace(column, group=title), fill, better)
    for title, name, unit, shown in (
        ("lesion volume", "volume", "_ml", "mL"),
        ("total lesion glycolysis", "tlg", "", "g"),
    )
    for column, fill, better in (
        (Column("Bias", shown), bias_of(name, unit), ""),
        (Column("Limits of agreement", shown), limits_of(name, unit), "low"),
        (Column("Concordance", "Lin's", high_first=True), ratio_of(f"{name}_ccc", 2), "high"),
    )
]


def experiment_table(
    caption: str, experiments: pd.DataFrame, figures: list[Figure], unranked: Collection[str]
) -> Table:
    """One row per row of ``experiments``; the best network of each column is bold.

    Experiments of the ``unranked`` strategies, such as baselines, are quiet and no rivals.
    """
    figures = EXPERIMENT_FIGURES + figures
    records = rows_of(experiments)
    quiet = [row["strategy"] in unranked for row in records]
    columns = [
        mark_best([figure.fill(row) for row in records], quiet, figure.better) for figure in figures
    ]
    return Table(
        caption,
        [figure.column for figure in figures],
        [
            TableRow(list(cells), hush)
            for cells, hush in zip(zip(*columns, strict=True), quiet, strict=True)
        ],
    )


def mark_best(cells: list[Cell], quiet: list[bool], better: str) -> list[Cell]:
    """The cells with the best key among those that are not ``quiet`` set bold, ties included.

    Nothing is bold where ``better`` is "" or fewer than two cells have a key.
    """
    keys = [
        cell.key
        for cell, hush in zip(cells, quiet, strict=True)
        if isinstance(cell.key, float) and not hush
    ]
    if not better or len(keys) < 2:
        return cells
    best = max(keys) if better == "high" else min(keys)
    return [
        replace(cell, best=not hush and cell.key == best)
        for cell, hush in zip(cells, quiet, strict=True)
    ]


def regions_table(regions: pd.DataFrame) -> Table:
    """What each experiment's boxes hold and miss, over all studies."""
    rows = []
    for (strategy, model, cohort), part in regions.groupby(EXPERIMENT_COLUMNS):
        lesions, missed = int(part["lesions_reference"].sum()), int(part["lesions_missed"].sum())
        filled = float(part["boxes_ml"].sum() / part["body_ml"].sum())
        fallback = int((part["origin"] != "clusters").sum())
        oracle = bool((part["origin"] == "reference").any())
        rows.append(
            TableRow(
                [
                    *(text_cell(str(name)) for name in (model, strategy, cohort)),
                    Cell(f"{missed} of {lesions}", key=float(missed)),
                    Cell(
                        decimals(part["reference_outside_ml"].sum(), 1),
                        key=float(part["reference_outside_ml"].sum()),
                    ),
                    Cell(f"{100 * filled:.0f} %", key=filled),
                    Cell(
                        decimals(part["boxes"].mean(), 1),
                        f"n {len(part)}",
                        key=part["boxes"].mean(),
                    ),
                    Cell("–")
                    if oracle
                    else Cell(f"{fallback} of {len(part)}", key=float(fallback)),
                ]
            )
        )
    return Table(
        "Over all studies. Without a cluster above the coarse probability's threshold, boxes lie "
        "around the coarse probability's peaks.",
        [
            *(figure.column for figure in EXPERIMENT_FIGURES),
            Column("Lesions outside", "of all"),
            Column("Lesion volume outside", "mL, all studies"),
            Column("Boxes fill", "of the body's box"),
            Column("Boxes", "per study"),
            Column("Without a cluster", "studies"),
        ],
        rows,
    )


def excluded_table(excluded: pd.DataFrame) -> Table:
    """Everything that was left out.

    A file's folder is not shown: the page goes where paths of this machine should not.
    """
    names = ["study", "patient", "step", "reason", "file"]
    return Table(
        "Each with its reason. The files' folders stand in tables/excluded.tsv.",
        [Column(name.capitalize(), numeric=False, prose=name == "reason") for name in names],
        [
            TableRow(
                [text_cell((name_of_file if n == "file" else str)(str(row[n]))) for n in names]
            )
            for row in rows_of(excluded)
        ],
    )


def name_of_file(path: str) -> str:
    """The last part of an absolute path; anything else as it is."""
    return PurePath(path).name if PurePath(path).is_absolute() else path


def reasons_table(excluded: pd.DataFrame) -> Table:
    """How many were left out, by the step and what the reasons say but for their numbers."""
    rows = []
    for step, part in excluded.groupby("step"):
        bearers = part["study"].where(part["study"] != "", part["file"].astype(str))
        for kind in count_kinds(zip(bearers, part["reason"], strict=True)):
            count = Cell(f"{kind.bearers} of {len(excluded)}", key=float(kind.bearers))
            rows.append(TableRow([count, text_cell(str(step)), text_cell(kind.text)]))
    rows.sort(key=lambda row: -float(row.cells[0].key or 0))
    return Table(
        "By step and kind of reason.",
        [
            Column("Left out", high_first=True),
            Column("Step", numeric=False),
            Column("Reason", numeric=False, prose=True),
        ],
        rows,
    )


def split_warnings(studies: pd.DataFrame) -> list[tuple[str, str]]:
    """(study, warning) of a table of studies, whose cells part warnings by "; "."""
    return [
        (str(row["study"]), warning)
        for row in rows_of(studies)
        for warning in row["warnings"].split("; ")
        if warning
    ]


def warnings_table(studies: pd.DataFrame) -> Table:
    """How many studies carry each kind of warning."""
    return Table(
        "By kind of warning.",
        [Column("Studies", high_first=True), Column("Warning", numeric=False, prose=True)],
        [
            TableRow(
                [
                    Cell(f"{kind.bearers} of {len(studies)}", key=float(kind.bearers)),
                    text_cell(kind.text),
                ]
            )
            for kind in count_kinds(split_warnings(studies))
        ],
    )


def warned_table(studies: pd.DataFrame) -> Table:
    """The studies that carry warnings, with what these are likely about."""
    return Table(
        "SUV ×: what AutoPET's own conversion gives, as a multiple of the SUV by the standard; a "
        "range where its slices do not agree. Every study stands in tables/studies.tsv.",
        [
            Column("Study", numeric=False),
            Column("Patient", numeric=False),
            Column("Units of PET", numeric=False),
            Column("Maximum", "SUV", high_first=True),
            Column("Lesions", "mL", high_first=True),
            Column("CT covers", "% of the PET"),
            Column("SUV ×", "AutoPET's"),
            Column("Warnings", numeric=False, prose=True),
        ],
        [warned_row(row) for row in rows_of(studies[studies["warnings"] != ""])],
    )


def warned_row(row: Row) -> TableRow:
    low, high = float(row["autopet_ratio_low"]), float(row["autopet_ratio_high"])
    ends = [decimals(value, 3) for value in (low, high)]
    ratio = ends[0] if ends[0] == ends[1] else "–".join(ends)
    return TableRow(
        [
            *(text_cell(str(row[name])) for name in ("study", "patient", "units")),
            number_cell(float(row["suv_max"]), 1),
            number_cell(float(row["lesion_ml"]), 1),
            number_cell(100 * float(row["ct_covers_pet_share"]), 0),
            Cell("–") if math.isnan(low) else Cell(ratio, key=max(abs(low - 1), abs(high - 1))),
            text_cell(row["warnings"]),
        ]
    )


def folds_table(studies: pd.DataFrame) -> Table:
    """Who is tested in each fold; ``studies`` has one row per study.

    Columns ``study``, ``patient``, ``fold``, ``positive``, ``lesions`` and ``reference_ml``.
    """
    rows = [fold_row(f"fold {fold}", part) for fold, part in studies.groupby("fold")]
    return Table(
        "Each study is tested once, in its fold, by networks trained on the other folds. All "
        "studies of a patient share a fold.",
        [
            Column("Tested in", numeric=False),
            Column("Studies"),
            Column("Patients"),
            Column("With lesions"),
            Column("Without lesions"),
            Column("Lesions"),
            Column("Lesion volume", "mL"),
        ],
        [*rows, fold_row("all folds", studies)],
    )


def fold_row(name: str, part: pd.DataFrame) -> TableRow:
    positive = int(part["positive"].sum())
    counts = [
        len(part), part["patient"].nunique(), positive, len(part) - positive,
        int(part["lesions"].sum()),
    ]  # fmt: skip
    return TableRow(
        [
            text_cell(name),
            *(Cell(str(count), key=float(count)) for count in counts),
            number_cell(float(part["reference_ml"].sum()), 0),
        ]
    )


# The figures of differences.tsv: how they are called, on which studies, with how many decimals.
OUTCOMES = {
    "dice": ("Dice, positives", 2),
    "fn_volume_ml": ("missed mL, positives", 1),
    "negative_fp_volume_ml": ("false mL, negatives", 1),
    "negative_false_alarm_rate": ("false alarm rate, negatives", 2),
}
COMPARED = [f"{column}_{side}" for side in "ab" for column in EXPERIMENT_COLUMNS]


def differences_table(caption: str, differences: pd.DataFrame, significance: float) -> Table:
    """One row per comparison of these rows of differences.tsv, a group of columns per figure.

    What is beyond chance is bold.
    """
    rows = []
    for names, part in differences.groupby(COMPARED, sort=False):
        side = dict(zip(COMPARED, map(str, names), strict=True))
        outcomes = {str(row["metric"]): row for row in part.to_dict("records")}
        cells = [compared_cell(side, letter) for letter in "ab"]
        pairs = float(part["pairs"].iloc[0])
        cells.append(Cell(f"{pairs:.0f}", key=pairs))
        for name, (_, digits) in OUTCOMES.items():
            if name not in outcomes:
                cells += [Cell("–"), Cell("–")]
                continue
            row = outcomes[name]
            beyond = bool(row["p_adjusted"] < significance)
            cells.append(
                Cell(
                    decimals(row["difference"], digits),
                    f"n\u00a0{row['studies']:.0f}",
                    span(row["low"], row["high"], digits),
                    float(row["difference"]),
                    beyond,
                )
            )
            adjusted, alone = p_value(row["p_adjusted"]), p_value(row["p"])
            cells.append(
                Cell(adjusted, note=f"alone {alone}", key=float(row["p_adjusted"]), best=beyond)
            )
        detectable = outcomes["dice"]["detectable_difference"] if "dice" in outcomes else math.nan
        cells.insert(5, number_cell(detectable, 2))
        rows.append(TableRow(cells))
    groups = [
        [Column("Difference", group=title), Column("p", "adjusted", group=title)]
        for title, _ in OUTCOMES.values()
    ]
    groups[0].append(Column("Detectable", "difference", group=groups[0][0].group))
    return Table(
        caption,
        [
            Column("First", numeric=False),
            Column("less second", numeric=False),
            Column("Pairs", "pooled"),
            *(column for group in groups for column in group),
        ],
        rows,
    )


def compared_cell(names: dict[str, str], side: str) -> Cell:
    """One side of a comparison: the model, and beneath it the strategy and cohort."""
    model, strategy, cohort = (
        f"all {plural}" if names[f"{column}_{side}"] == POOLED else names[f"{column}_{side}"]
        for column, plural in (
            ("model", "models"),
            ("strategy", "strategies"),
            ("cohort", "cohorts"),
        )
    )
    note = "threshold" if strategy == BASELINE_STRATEGY else f"{strategy} · {cohort}"
    return Cell(model, note=note, key=f"{model} {note}")
