"""Draw how many times as long as ours each peer's work took, and what was learnt in equal time."""

from __future__ import annotations

import argparse
import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from petct.command_line import exit_on_error
from petct.plots import BLUE, FAINT, GREY, INK, VERMILION, save_figure, style
from petct.speed import TITLES, read_benchmark, show_amount

Row = Mapping[Any, Any]
WIDTH_INCH, ROW_INCH, LINE_INCH, MARGIN_INCH = 9.0, 0.14, 0.115, 0.55
LABEL_SHARE = 0.5
# Characters of a label's line.
LINE = 70
DPI = 150
# Of equal time, so that what it led to is compared.
EQUAL_TIME = "budget"


def plot_benchmark(table: pd.DataFrame, output: Path) -> None:
    with style():
        save_figure(draw_benchmark(table), output, DPI)


def draw_benchmark(table: pd.DataFrame) -> Figure:
    """A row per peer and kind of work: the median ratio of time, its range, the goal.

    Below, if it was contested, the mean Dice of each contestant that learnt in the same time.
    """
    rows = table[table["ratio"].notna() & (table["task"] != EQUAL_TIME)]
    rows = rows.iloc[::-1].reset_index(drop=True)
    learnt = table[table["task"] == EQUAL_TIME].iloc[::-1].reset_index(drop=True)
    heights = [sum(map(row_inch, part.to_dict("records"))) for part in (rows, learnt)]
    height = sum(heights) + MARGIN_INCH * (1 + (not rows.empty) + (not learnt.empty))
    figure = Figure(figsize=(WIDTH_INCH, height))
    bottom = MARGIN_INCH
    for part, inches, draw in ((learnt, heights[1], draw_learnt), (rows, heights[0], draw_ratios)):
        if part.empty:
            continue
        axes = figure.add_axes((LABEL_SHARE, bottom / height, 0.96 - LABEL_SHARE, inches / height))
        bottom += inches + MARGIN_INCH
        records = part.to_dict("records")
        sides = np.cumsum([0.0, *map(row_inch, records)])
        centres = (sides[:-1] + sides[1:]) / 2
        for y in centres:
            axes.axhline(y, color=FAINT, linewidth=0.8, zorder=0)
        draw(axes, records, centres)
        axes.set_yticks(centres, list(map(label, records)), fontsize=6.5)
        axes.set_ylim(0, sides[-1])
        axes.tick_params(axis="y", length=0)
    handles = [
        Line2D([], [], color=BLUE, marker="o", linewidth=2, label="median, range of rounds"),
        Line2D(
            [],
            [],
            color=VERMILION,
            marker="o",
            linewidth=2,
            label="misses a goal",
        ),
        Line2D([], [], color=INK, marker="|", linewidth=0, markersize=10, label="goal"),
    ]
    figure.legend(handles=handles, loc="upper right", ncols=3)
    return figure


def label(row: Row) -> str:
    """What was done, and by whom in as many lines as it takes."""
    who = f"{row['who']}, {row['settings']}" if row["settings"] else row["who"]
    return "\n".join(
        [f"{TITLES.get(row['task'], row['task'])}, {row['size']}", *textwrap.wrap(who, LINE)]
    )


def row_inch(row: Row) -> float:
    return ROW_INCH + LINE_INCH * len(label(row).splitlines())


def draw_ratios(axes: Axes, rows: Sequence[Row], centres: np.ndarray) -> None:
    """Our time is 1; a mark where the goal is."""
    axes.set_xscale("log")
    axes.axvline(1.0, color=GREY, linewidth=0.8)
    for y, row in zip(centres, rows, strict=True):
        colour = colour_of(row)
        axes.plot([row["ratio_min"], row["ratio_max"]], [y, y], color=colour, linewidth=2)
        axes.plot([row["ratio"]], [y], "o", color=colour, markersize=5)
        if not math.isnan(row["goal"]):
            axes.plot([row["goal"]], [y], "|", color=INK, markersize=10, markeredgewidth=1.6)
        write(axes, show_amount(row["ratio"]), np.nanmax([row["ratio_max"], row["goal"]]), y)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("time that the other takes for the same work, ours = 1 (log scale)")
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, 0.8), high * 1.6)


def draw_learnt(axes: Axes, rows: Sequence[Row], centres: np.ndarray) -> None:
    """The Dice of each, ours as well."""
    for y, row in zip(centres, rows, strict=True):
        found = re.search(r"\bdice=(\S+)", row["quality"])
        dice = float(found[1]) if found else math.nan
        axes.plot([dice], [y], "o", color=colour_of(row), markersize=5)
        write(axes, show_amount(dice), dice, y)
    axes.set_xlim(-0.02, 1.0)
    axes.set_xlabel("mean Dice after the same time of training, median of rounds")


def colour_of(row: Row) -> str:
    return VERMILION if row["reached"] == "no" else BLUE


def write(axes: Axes, text: str, x: float, y: float) -> None:
    axes.annotate(text, (x, y), xytext=(6, 0), textcoords="offset points", va="center", fontsize=8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", type=Path, required=True, help="benchmark.tsv")
    parser.add_argument("--output", type=Path, required=True, help="picture (PNG)")
    given = parser.parse_args()
    plot_benchmark(read_benchmark(given.table), given.output)


if __name__ == "__main__":
    with exit_on_error():
        main()
