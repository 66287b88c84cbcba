"""The benchmark's table in words, for the page, the README and the figure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from petct.manifests import whole_table
from petct.report_tables import Cell, Column, Table, TableRow, number_cell, rows_of, text_cell

TITLES = {
    "conversion": "DICOM to training format",
    "patches": "augmented patches",
    "patches_elastic": "augmented patches, deformed",
    "steps": "training steps",
    "inference": "inference",
    "two_step": "two steps against one",
    "budget": "learning in equal time",
    "metrics": "metrics of a study",
    "planning": "planning",
}
TEXT = ["task", "size", "who", "settings", "unit", "quality", "quality_goal", "reached", "missed"]


def read_benchmark(path: Path) -> pd.DataFrame:
    """benchmark.tsv: what is not there is "" in a column of text and NaN in one of numbers."""
    return pd.read_csv(
        whole_table(path),
        sep="\t",
        dtype=dict.fromkeys(TEXT, str),
        keep_default_na=False,
        na_values={name: [""] for name in ("goal", "memory_goal", "most_s", "most_gb")}
        | {name: [""] for name in ("ratio", "ratio_min", "ratio_max", "memory_ratio")},
    )


def show_amount(value: float) -> str:
    """A number to three significant digits, without an exponent: 0.0123, 4.56, 1,234."""
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def show_ratio(row: Mapping[Any, Any]) -> str:
    """Theirs to ours in time with its spread: "9.1 (8.7–9.6)"; "" for ourselves."""
    if math.isnan(row["ratio"]):
        return ""
    low, high = show_amount(row["ratio_min"]), show_amount(row["ratio_max"])
    return f"{show_amount(row['ratio'])} ({low}–{high})"


def show_goal(row: Mapping[Any, Any]) -> str:
    """What was to be reached, in words: "time × 8, memory × 3, dice within 0.02 to inf": figures of
    quality are ours less theirs.
    """
    parts = []
    if not math.isnan(row["goal"]):
        parts.append(f"time × {row['goal']:g}")
    if not math.isnan(row["memory_goal"]):
        parts.append(f"memory × {row['memory_goal']:g}")
    if not math.isnan(row["most_s"]):
        parts.append(f"≤ {row['most_s']:g} s")
    if not math.isnan(row["most_gb"]):
        parts.append(f"≤ {row['most_gb']:g} GB")
    for name, least, most in re.findall(r"(\w+) (\S+)\.\.(\S+)", row["quality_goal"]):
        parts.append(f"{name} within {least} to {most}")
    return ", ".join(parts)


def tell_speed(benchmark: pd.DataFrame) -> list[str]:
    """Sentences: how many of the goals were reached, and of each that was not, by how much."""
    aimed = benchmark[benchmark["reached"] != ""]
    reached = int((aimed["reached"] == "yes").sum())
    sentences = [
        f"{reached} of {len(aimed)} comparisons reached all that they aimed at"
        + ("." if reached == len(aimed) else "; the others:")
    ]
    for row in aimed[aimed["reached"] == "no"].to_dict("records"):
        title = TITLES.get(row["task"], row["task"])
        against = f" against {row['who']} ({row['settings']})" if row["settings"] else ""
        sentences.append(f"{title}, {row['size']}{against}: {tell_miss(row)}.")
    return sentences


def tell_miss(row: Mapping[Any, Any]) -> str:
    """What a comparison reached of what it missed."""
    words = []
    for what in row["missed"].split(", "):
        if what == "time" and not math.isnan(row["goal"]):
            words.append(f"{show_amount(row['ratio'])} times as fast, goal {row['goal']:g}")
        elif what == "memory" and not math.isnan(row["memory_goal"]):
            ratio = show_amount(row["memory_ratio"])
            words.append(f"1/{ratio} of the memory, goal 1/{row['memory_goal']:g}")
        elif what == "time":
            words.append(f"{show_amount(row['wall_s'])} s, goal {row['most_s']:g} s")
        elif what == "memory":
            words.append(f"{show_amount(row['peak_gb'])} GB, goal {row['most_gb']:g} GB")
        else:
            words.append(f"{what} is not within its goal")
    return "; ".join(words)


def show_markdown(benchmark: pd.DataFrame) -> str:
    """The table of the README: a row per comparison."""
    head = "| work | against | ours | theirs | times as fast | times the memory | goals | reached |"
    lines = [head, "|---" * 8 + "|"]
    ours: Mapping[Any, Any] = {}
    for row in benchmark.to_dict("records"):
        if math.isnan(row["ratio"]):
            ours = row
        if row["reached"] == "":
            continue
        alone = math.isnan(row["ratio"])
        against = "–" if alone else f"{row['who']}, {row['settings']}"
        cells = [
            f"{TITLES.get(row['task'], row['task'])}, {row['size']}",
            against,
            f"{show_amount(ours['wall_s'])} s, {show_amount(ours['peak_gb'])} GB",
            "–" if alone else f"{show_amount(row['wall_s'])} s, {show_amount(row['peak_gb'])} GB",
            "–" if alone else show_ratio(row),
            "–" if alone else show_amount(row["memory_ratio"]),
            " and ".join(
                part
                for part in (
                    re.sub(r"[a-z_\d]+ within [^,]+(, )?", "", show_goal(row)).rstrip(", "),
                    "quality" if row["quality_goal"] else "",
                )
                if part
            ),
            row["reached"] if row["reached"] == "yes" else f"no: {row['missed']}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def speed_table(benchmark: pd.DataFrame) -> Table:
    """Who did what in which time, and whether the goals were reached."""
    columns = [
        Column("Work", numeric=False),
        Column("By", numeric=False, prose=True),
        Column("Time", "s"),
        Column("Memory", "GB"),
        Column("Time, ours = 1"),
        Column("Memory, ours = 1"),
        Column("Goals", numeric=False, prose=True),
        Column("Reached", numeric=False),
        Column("Quality", numeric=False, prose=True),
    ]
    rows = [
        TableRow(
            [
                text_cell(f"{TITLES.get(row['task'], row['task'])}, {row['size']}"),
                text_cell(f"{row['who']}, {row['settings']}" if row["settings"] else row["who"]),
                Cell(show_amount(row["wall_s"]), f"per {row['unit']}", key=row["wall_s"]),
                Cell(show_amount(row["peak_gb"]), key=row["peak_gb"]),
                Cell(
                    show_ratio(row), key=None if math.isnan(row["ratio"]) else float(row["ratio"])
                ),
                number_cell(row["memory_ratio"], 2),
                text_cell(show_goal(row)),
                text_cell(row["reached"]),
                text_cell(row["quality"]),
            ]
        )
        for row in rows_of(benchmark)
    ]
    return Table("The medians of paired runs. Figures of quality: ours less theirs.", columns, rows)
