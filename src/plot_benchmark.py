"""Draw how many times as long as ours each peer's work took, with the goals."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from petct.command_line import exit_on_error
from petct.plots import BLUE, FAINT, GREY, INK, VERMILION, save_figure, style
from petct.speed import TITLES, read_benchmark, show_amount

WIDTH_INCH, ROW_INCH, MARGIN_INCH = 9.0, 0.27, 0.9
LABEL_SHARE = 0.56
LONGEST = 62
DPI = 150


def plot_benchmark(table: pd.DataFrame, output: Path) -> None:
    """A row per peer and kind of work: the median ratio of time, its range, the goal."""
    rows = table[table["ratio"].notna()].iloc[::-1].reset_index(drop=True)
    with style():
        height = MARGIN_INCH + ROW_INCH * max(len(rows), 1)
        figure = Figure(figsize=(WIDTH_INCH, height))
        axes = figure.add_axes(
            (LABEL_SHARE, 0.55 / height, 0.96 - LABEL_SHARE, 1 - MARGIN_INCH / height)
        )
        axes.set_xscale("log")
        axes.axvline(1.0, color=GREY, linewidth=0.8)
        labels = []
        for y, row in enumerate(rows.to_dict("records")):
            colour = VERMILION if row["reached"] == "no" else BLUE
            axes.axhline(y, color=FAINT, linewidth=0.8, zorder=0)
            axes.plot([row["ratio_min"], row["ratio_max"]], [y, y], color=colour, linewidth=2)
            axes.plot([row["ratio"]], [y], "o", color=colour, markersize=5)
            if pd.notna(row["goal"]):
                axes.plot([row["goal"]], [y], "|", color=INK, markersize=10, markeredgewidth=1.6)
            axes.annotate(
                show_amount(row["ratio"]),
                (np.nanmax([row["ratio_max"], row["goal"]]), y),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
            label = f"{row['who']}, {row['settings']}"
            shown = label if len(label) <= LONGEST else label[: LONGEST - 1] + "…"
            labels.append(f"{TITLES.get(row['task'], row['task'])}, {row['size']}\n{shown}")
        axes.set_yticks(range(len(labels)), labels, fontsize=6.5)
        axes.set_ylim(-0.6, max(len(rows), 1) - 0.4)
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlabel("time that the other takes for the same work, ours = 1 (log scale)")
        low, high = axes.get_xlim()
        axes.set_xlim(min(low, 0.8), high * 1.6)
        handles = [
            Line2D([], [], color=BLUE, marker="o", linewidth=2, label="median, range of rounds"),
            Line2D(
                [],
                [],
                color=VERMILION,
                marker="o",
                linewidth=2,
                label="misses a goal, be it of quality",
            ),
            Line2D([], [], color=INK, marker="|", linewidth=0, markersize=10, label="goal"),
        ]
        figure.legend(handles=handles, loc="upper right", ncols=3)
        save_figure(figure, output, DPI)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", type=Path, required=True, help="benchmark.tsv")
    parser.add_argument("--output", type=Path, required=True, help="picture (PNG)")
    given = parser.parse_args()
    plot_benchmark(read_benchmark(given.table), given.output)


if __name__ == "__main__":
    with exit_on_error():
        main()
