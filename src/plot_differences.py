"""Draw how experiments differ on the same studies: a forest plot by question."""

from __future__ import annotations

import argparse
import json
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from petct.command_line import exit_on_error
from petct.comparisons import OUTCOMES, POOLED, UNTRAINED, Outcome
from petct.metrics import EXPERIMENT_COLUMNS, read_table
from petct.plots import BLUE, FAINT, GREY, INK, save_figure, style

# What is drawn of each question: its heading and its levels. The table has every pair.
SECTIONS = {
    "cohort": (
        "Trained without lesion-free studies, less trained with them",
        ["overall", "model"],
    ),
    "steps": ("Two steps, less one step", ["overall", "model"]),
    "architecture": ("One architecture, less another", ["model"]),
    "best": ("The best mean Dice, {}, less each other experiment", ["pair"]),
}
DRAWN = [outcome for outcome in OUTCOMES if outcome.name in ("dice", "negative_fp_volume_ml")]
SIDE_A, SIDE_B = ([f"{column}_{side}" for column in EXPERIMENT_COLUMNS] for side in "ab")

# From left to right: a letter of a label, then twice a panel and its text.
LETTER_INCH, PANEL_INCH, TEXT_INCH, MARGIN_INCH = 0.075, 2.6, 1.85, 0.08
TOP_INCH, ROW_INCH, BOTTOM_INCH = 0.5, 0.24, 0.62
# Where the columns of a panel's text end, from the panel's right edge.
DIFFERENCE_INCH, P_INCH, N_INCH = 0.6, 1.2, 1.6
DPI = 150


def name_comparison(row: dict[Hashable, Any]) -> str:
    """What the two sides differ in, "a − b", then what they share, less what a pool runs over.

    What the heading of the question says is not repeated.
    """
    sides = [(str(row[a]), str(row[b])) for a, b in zip(SIDE_A, SIDE_B, strict=True)]
    if row["question"] == "best":
        return " · ".join(b for _, b in sides if b != UNTRAINED)
    if row["question"] == "cohort":
        sides = sides[:2]
    parts = [f"{a} − {b}" for a, b in sides if a != b]
    parts += [a for a, b in sides if a == b != POOLED]
    if row["pairs"] > 1:
        parts.append(f"mean of {row['pairs']} pairs")
    return " · ".join(parts)


def arrange_comparisons(differences: pd.DataFrame) -> pd.DataFrame:
    """The comparisons to draw, with height ``y`` counted from the top.

    ``heading`` holds that of the question which begins above a row, else "". A pool of one pair
    is drawn at the coarsest level that has it.
    """
    parts = []
    for question, (heading, levels) in SECTIONS.items():
        asked = differences["question"] == question
        rows = differences[asked & differences["level"].isin(levels)]
        rows = rows.drop_duplicates([*SIDE_A, *SIDE_B])
        if question == "best":
            rows = rows.sort_values("difference", kind="stable")
        names = " · ".join(rows.iloc[0][SIDE_A]) if len(rows) else ""
        headings = [heading.format(names) if i == 0 else "" for i in range(len(rows))]
        parts.append(rows.assign(heading=headings))
    rows = pd.concat(parts, ignore_index=True)
    begins = rows["heading"] != ""
    return rows.assign(y=np.arange(len(rows)) + 1.5 * begins.cumsum())


def draw_volume_scale(axes: Axes, volumes_ml: np.ndarray) -> None:
    """A scale for differences of millilitres and of litres: linear to +-10 mL, then logarithmic.

    Either side reaches the next power of ten beyond ``volumes_ml``.
    """
    axes.set_xscale("symlog", linthresh=10.0)
    reach_ml = (max(-np.nanmin(volumes_ml), 10.0), max(np.nanmax(volumes_ml), 10.0))
    left, right = (int(np.ceil(np.log10(reach))) for reach in reach_ml)
    axes.set_xlim(-(10.0**left), 10.0**right)
    every = 1 if left + right <= 5 else 2
    negative = [-(10.0**power) for power in range(1, left + 1, every)]
    ticks = [*negative, 0.0, *(10.0**power for power in range(1, right + 1, every))]
    axes.set_xticks(ticks, [f"{tick:g}".replace("-", "−") for tick in ticks])
    axes.minorticks_off()


def signed(value: float, digits: int) -> str:
    """A rounded number with its sign, and 0 without."""
    return f"{round(value, digits) or 0.0:{'+' if round(value, digits) else ''}.{digits}f}".replace(
        "-", "−"
    )


def draw_outcome(
    axes: Axes, comparisons: pd.DataFrame, rows: pd.DataFrame, outcome: Outcome, alpha: float
) -> None:
    """One panel: the ``rows`` of ``outcome`` at the heights of their ``comparisons``."""
    keys = ["question", "level", *SIDE_A, *SIDE_B]
    shown = comparisons[[*keys, "y"]].merge(rows, on=keys)
    axes.axvline(0.0, color=GREY, linewidth=0.9, zorder=1)
    beside = axes.get_yaxis_transform()
    digits = 2 if outcome.positive else 1
    for row in shown.to_dict("records"):
        y, found = row["y"], row["p_adjusted"] < alpha
        colour = BLUE if found else GREY
        if not np.isnan(row["low"]):
            axes.plot([row["low"], row["high"]], [y, y], color=colour, linewidth=1.4, zorder=2)
        axes.plot(
            [row["difference"]],
            [y],
            marker="D",
            markersize=5,
            color=colour,
            markerfacecolor=colour if found else "white",
            zorder=3,
        )
        p = row["p_adjusted"]
        cells = {
            DIFFERENCE_INCH: signed(row["difference"], digits),
            P_INCH: "<0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}",
            N_INCH: f"{row['studies']}",
        }
        for inch, text in cells.items():
            axes.text(
                1 + inch / PANEL_INCH,
                y,
                text,
                transform=beside,
                ha="right",
                va="center",
                fontsize=8,
                weight="bold" if found and inch == P_INCH else "normal",
            )
    for inch, text in ((DIFFERENCE_INCH, "diff."), (P_INCH, "adj. p"), (N_INCH, "n")):
        axes.text(
            1 + inch / PANEL_INCH, 0.5, text, transform=beside, ha="right", fontsize=8, color=GREY
        )
    if shown.empty:
        axes.set_xlim(-1.0, 1.0)
    elif not outcome.positive:
        draw_volume_scale(axes, shown[["low", "difference", "high"]].to_numpy(float))
    better, worse = ("better", "worse") if outcome.higher_is_better else ("worse", "better")
    where = "with" if outcome.positive else "without"
    axes.set_xlabel(
        f"difference in {outcome.label}, studies {where} lesions\n"
        f"← first is {worse}        first is {better} →"
    )


def draw_differences(differences: pd.DataFrame, confidence: float) -> Figure:
    """The figure: a row per comparison, a panel per outcome; ``differences`` as in the table."""
    comparisons = arrange_comparisons(differences)
    labels = [name_comparison(row) for row in comparisons.to_dict("records")]
    headings = [heading for heading in comparisons["heading"] if heading]
    if not labels:
        comparisons = comparisons.assign(y=0.0)
    bottom = float(comparisons["y"].max()) + 0.8 if labels else 1.5
    left = 2 * MARGIN_INCH + LETTER_INCH * max(40, *map(len, [*labels, ""]))
    width = left + len(DRAWN) * (PANEL_INCH + TEXT_INCH)
    across = ROW_INCH * bottom
    height = TOP_INCH + across + BOTTOM_INCH
    figure = Figure(figsize=(width, height))
    for number, outcome in enumerate(DRAWN):
        x = left + number * (PANEL_INCH + TEXT_INCH)
        axes = figure.add_axes(
            (x / width, BOTTOM_INCH / height, PANEL_INCH / width, across / height)
        )
        axes.set_ylim(bottom, 0.0)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        for y in comparisons["y"]:
            axes.axhline(y, color=FAINT, linewidth=0.8, zorder=0)
        rows = differences[differences["metric"] == outcome.name]
        draw_outcome(axes, comparisons, rows, outcome, 1 - confidence)
        if number:
            continue
        beside = axes.get_yaxis_transform()
        for row, label in zip(comparisons.to_dict("records"), labels, strict=True):
            weight = "bold" if row["level"] == "overall" else "normal"
            at: dict[str, Any] = {"transform": beside, "va": "center", "weight": weight}
            axes.text(-0.03, row["y"], label, ha="right", fontsize=8, **at)
            if row["heading"]:
                axes.text(
                    (MARGIN_INCH - left) / PANEL_INCH,
                    row["y"] - 0.95,
                    row["heading"],
                    transform=beside,
                    va="center",
                    weight="bold",
                    bbox={"facecolor": "white", "linewidth": 0, "pad": 1.0},
                )
        if not headings:
            axes.text(
                0.5, 0.5, "no two experiments to compare", transform=axes.transAxes, ha="center"
            )
    diamond: dict[str, Any] = {"marker": "D", "markersize": 5, "linewidth": 1.4}
    interval = f"mean difference, {confidence:.0%} interval"
    found = f"with adjusted p < {1 - confidence:.2g}"
    figure.legend(
        handles=[
            Line2D([], [], **diamond, color=GREY, markerfacecolor="white", label=interval),
            Line2D([], [], **diamond, color=BLUE, label=found),
        ],
        loc="upper right",
        ncols=2,
        labelcolor=INK,
    )
    return figure


def plot_differences(differences: Path, settings: dict[str, Any], output: Path) -> None:
    """Draw the table ``differences``; ``settings`` has the ``confidence`` of its intervals."""
    with style():
        save_figure(draw_differences(read_table(differences), settings["confidence"]), output, DPI)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--differences", type=Path, required=True, help="differences.tsv")
    parser.add_argument("--settings", type=json.loads, required=True, help="JSON: confidence")
    parser.add_argument("--output", type=Path, required=True, help="picture (PNG)")
    plot_differences(**vars(parser.parse_args()))


if __name__ == "__main__":
    with exit_on_error():
        main()
