"""Draw every study's Dice and false alarm volume, one row per experiment."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from petct.command_line import exit_on_error
from petct.metrics import EXPERIMENT_COLUMNS, read_table
from petct.plots import (
    BASELINE_STRATEGY,
    FAINT,
    GREY,
    INK,
    jitter,
    model_colours,
    save_figure,
    style,
)

# From left to right: a letter of a label, the Dice panel, its text, the false alarms, their text.
LETTER_INCH, DICE_INCH, DICE_TEXT_INCH, ALARM_INCH, ALARM_TEXT_INCH = 0.075, 3.3, 1.5, 1.8, 1.3
MARGIN_INCH, TOP_INCH, ROW_INCH, BOTTOM_INCH = 0.08, 0.45, 0.32, 0.62
DPI = 150
SMALLEST_ML = 0.1


def row_positions(comparison: pd.DataFrame) -> pd.DataFrame:
    """The comparison in drawing order, with each experiment's height ``y`` counted from the top.

    Strategies stand together, the one with the best mean Dice first, baselines last; a strategy's
    name takes half a row above its experiments.
    """
    best = comparison.groupby("strategy")["dice_mean"].max().fillna(-1.0)
    comparison = (
        comparison.copy()
        .assign(
            baseline=comparison["strategy"] == BASELINE_STRATEGY,
            best=comparison["strategy"].map(best),
        )
        .sort_values(
            ["baseline", "best", "strategy", "dice_mean"],
            ascending=[True, False, True, False],
            kind="stable",
        )
    )
    begins = comparison["strategy"] != comparison["strategy"].shift()
    return comparison.assign(begins=begins, y=np.arange(len(begins)) + begins.cumsum() * 0.9)


def draw_rows(axes: Axes, rows: pd.DataFrame, bands: tuple[float, float]) -> None:
    """Lines and limits that both panels share; row 0 is at the top."""
    for y in rows["y"]:
        axes.axhline(y, color=FAINT, linewidth=0.8, zorder=0)
    axes.set_ylim(bands[1], bands[0])
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_yticks([])


def draw_points(axes: Axes, x: np.ndarray, y: float, colour: str, hollow: bool) -> None:
    axes.scatter(
        x,
        y + jitter(len(x), 0.5),
        s=11,
        facecolors="none" if hollow else colour,
        edgecolors=colour,
        alpha=0.8 if hollow else 0.55,
        linewidths=0.9 if hollow else 0,
        clip_on=False,
        zorder=3.5,
    )


def draw_mean(axes: Axes, mean: float, low: float, high: float, y: float) -> None:
    """A mean and, if it has one, its interval."""
    if np.isnan(mean):
        return
    if not np.isnan(low):
        axes.plot([low, high], [y, y], color=INK, linewidth=1.6, solid_capstyle="butt", zorder=3)
    axes.plot([mean], [y], marker="D", markersize=5, color=INK, markeredgecolor="white", zorder=4)


def draw_dice(metrics: pd.DataFrame, comparison: pd.DataFrame) -> Figure:
    """The figure: ``metrics`` has one row per study and experiment, ``comparison`` one per
    experiment.
    """
    rows = row_positions(comparison)
    colours = model_colours(rows.loc[~rows["baseline"], "model"])
    bands = (0.3, float(rows["y"].max()) + 0.7)
    labels = [
        row["model"] if row["baseline"] else f"{row['model']} · {row['cohort']}"
        for row in rows.to_dict("records")
    ]
    dice_left = 2 * MARGIN_INCH + LETTER_INCH * max(20, *map(len, labels))
    alarm_left = dice_left + DICE_INCH + DICE_TEXT_INCH
    width = alarm_left + ALARM_INCH + ALARM_TEXT_INCH
    across = ROW_INCH * (bands[1] - bands[0])
    height = TOP_INCH + across + BOTTOM_INCH
    figure = Figure(figsize=(width, height))
    vertical = (BOTTOM_INCH / height, across / height)
    dice_axes = figure.add_axes((dice_left / width, vertical[0], DICE_INCH / width, vertical[1]))
    alarm_axes = figure.add_axes((alarm_left / width, vertical[0], ALARM_INCH / width, vertical[1]))
    for axes in (dice_axes, alarm_axes):
        draw_rows(axes, rows, bands)
    dice_axes.set_xlim(0.0, 1.0)
    dice_axes.set_xlabel("Dice, studies with lesions")
    alarm_axes.set_xscale("symlog", linthresh=SMALLEST_ML, linscale=0.5)
    alarm_axes.set_xlabel("false-positive volume [mL],\nstudies without lesions")

    negatives = metrics[~metrics["positive"].astype(bool)]
    largest = max(float(negatives["fp_volume_ml"].max()) if len(negatives) else 0.0, 10.0)
    decades = int(np.ceil(np.log10(largest)))
    every = 1 if decades <= 2 else 2
    ticks = [10.0**power for power in range(-1, decades + 1, every)]
    alarm_axes.set_xlim(0.0, 10.0**decades)
    alarm_axes.set_xticks([0.0, *ticks], ["0", *(f"{tick:g}" for tick in ticks)])
    alarm_axes.minorticks_off()

    groups = dict(list(metrics.groupby(EXPERIMENT_COLUMNS)))
    names = dice_axes.get_yaxis_transform()
    for row, label in zip(rows.to_dict("records"), labels, strict=True):
        y = row["y"]
        colour = GREY if row["baseline"] else colours[row["model"]]
        hollow = row["cohort"] == "positive"
        if row["begins"]:
            dice_axes.text(
                (MARGIN_INCH - dice_left) / DICE_INCH,
                y - 0.75,
                row["strategy"],
                transform=names,
                va="center",
                weight="bold",
            )
        dice_axes.text(-0.03, y, label, transform=names, ha="right", va="center", fontsize=8)
        studies = groups[tuple(row[key] for key in EXPERIMENT_COLUMNS)]
        positive = studies["positive"].astype(bool)
        draw_points(dice_axes, studies.loc[positive, "dice"].to_numpy(float), y, colour, hollow)
        draw_mean(dice_axes, row["dice_mean"], row["dice_low"], row["dice_high"], y)
        draw_points(
            alarm_axes, studies.loc[~positive, "fp_volume_ml"].to_numpy(float), y, colour, hollow
        )
        draw_mean(
            alarm_axes,
            row["negative_fp_volume_ml_mean"],
            row["negative_fp_volume_ml_low"],
            row["negative_fp_volume_ml_high"],
            y,
        )
        for axes, name, digits, panel_inch in (
            (dice_axes, "dice", 2, DICE_INCH),
            (alarm_axes, "negative_fp_volume_ml", 1, ALARM_INCH),
        ):
            count = row[f"{name}_n"]
            mean = f"{row[f'{name}_mean']:.{digits}f}" if count else ""
            transform = axes.get_yaxis_transform()
            for inch, text in ((0.55, mean), (1.2, f"n = {count}")):
                axes.text(
                    1 + inch / panel_inch,
                    y,
                    text,
                    transform=transform,
                    ha="right",
                    va="center",
                    fontsize=8,
                )
    study: dict[str, Any] = {"marker": "o", "markersize": 4, "color": GREY, "linestyle": ""}
    average: dict[str, Any] = {"marker": "D", "markersize": 5, "color": INK, "linewidth": 1.6}
    hollow_label = "trained without lesion-free studies"
    figure.legend(
        handles=[
            Line2D([], [], **study, label="one study"),
            Line2D([], [], **study, label=hollow_label, markerfacecolor="none"),
            Line2D([], [], **average, label="mean, interval"),
        ],
        loc="upper right",
        ncols=3,
    )
    return figure


def plot_dice(metrics: Path, comparison: Path, output: Path) -> None:
    """Draw ``metrics``, the studies' scores, with the means and intervals of ``comparison``."""
    with style():
        save_figure(draw_dice(read_table(metrics), read_table(comparison)), output, DPI)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--metrics", type=Path, required=True, help="metrics.tsv")
    parser.add_argument("--comparison", type=Path, required=True, help="comparison.tsv")
    parser.add_argument("--output", type=Path, required=True, help="picture (PNG)")
    plot_dice(**vars(parser.parse_args()))


if __name__ == "__main__":
    with exit_on_error():
        main()
