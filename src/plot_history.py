"""Draw the training curves: a panel per experiment, a line per fold."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from petct.command_line import exit_on_error
from petct.errors import PetctError
from petct.manifests import whole_table
from petct.plots import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, SKY, VERMILION, save_figure, style

FOLD_COLOURS = [BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY]
PANELS_PER_ROW = 4
PANEL_INCH = (2.75, 2.9)
LEGEND_INCH = 0.4
DPI = 130


def experiment_of(history: Path) -> tuple[str, str, str, int]:
    """Strategy, model, cohort and fold, from .../<strategy>/<model>/<cohort>/fold-<k>/<file>."""
    parts = history.resolve().parts[-5:-1]
    fold = re.fullmatch(r"fold-(\d+)", parts[-1]) if len(parts) == 4 else None
    if not fold:
        raise PetctError(
            f"got history {history}, expected <strategy>/<model>/<cohort>/fold-<k>/{history.name}"
        )
    strategy, model, cohort, _ = parts
    return strategy, model, cohort, int(fold[1])


def draw_curve(axes: Axes, history: pd.DataFrame, column: str, colour: str, dashed: bool) -> None:
    """One column over the epochs in which it was measured."""
    if column not in history:
        return
    measured = history[history[column].notna()]
    axes.plot(
        measured["epoch"],
        measured[column],
        color=colour,
        linewidth=1.0,
        linestyle=(0, (4, 1.5)) if dashed else "-",
        marker="o" if len(measured) == 1 else None,
        markersize=3,
    )


def draw_histories(experiments: dict[tuple[str, str, str], dict[int, pd.DataFrame]]) -> Figure:
    """The figure: for each experiment the losses above and the validation Dice below.

    ``experiments`` holds each fold's table, with columns ``epoch``, ``train_loss`` and, where
    measured, ``validation_loss`` and ``validation_dice``.
    """
    columns = min(len(experiments), PANELS_PER_ROW)
    rows = -(-len(experiments) // columns)
    height = rows * PANEL_INCH[1] + LEGEND_INCH
    figure = Figure(figsize=(max(columns * PANEL_INCH[0], 5.0), height), layout="constrained")
    body, legend = figure.subfigures(
        2, 1, squeeze=False, height_ratios=[height - LEGEND_INCH, LEGEND_INCH]
    )[:, 0]
    panels = body.subfigures(rows, columns, squeeze=False)
    for index, (experiment, folds) in enumerate(experiments.items()):
        row, column = divmod(index, columns)
        loss, dice = panels[row, column].subplots(2, 1, sharex=True)
        for fold, history in sorted(folds.items()):
            colour = FOLD_COLOURS[fold % len(FOLD_COLOURS)]
            draw_curve(loss, history, "train_loss", colour, dashed=False)
            draw_curve(loss, history, "validation_loss", colour, dashed=True)
            draw_curve(dice, history, "validation_dice", colour, dashed=False)
        strategy, model, cohort = experiment
        loss.set_title(f"{strategy}\n{model} · {cohort}", loc="left", fontsize=8)
        dice.set_ylim(0.0, 1.0)
        dice.set_xlabel("epoch")
        dice.xaxis.get_major_locator().set_params(integer=True)
        for axes, label in ((loss, "loss"), (dice, "validation Dice")):
            axes.grid(axis="y")
            axes.set_ylabel(label if column == 0 else "")
    numbers = sorted({fold for folds in experiments.values() for fold in folds})
    legend.legend(
        handles=[
            *(
                Line2D([], [], color=FOLD_COLOURS[n % len(FOLD_COLOURS)], label=f"fold {n}")
                for n in numbers
            ),
            Line2D([], [], color=INK, linewidth=1.0, label="training loss"),
            Line2D(
                [], [], color=INK, linewidth=1.0, linestyle=(0, (4, 1.5)), label="validation loss"
            ),
        ],
        loc="center",
        ncols=len(numbers) + 2,
        labelcolor=INK,
        edgecolor=GREY,
    )
    return figure


def plot_history(histories: list[Path], output: Path) -> None:
    """Draw the tables ``histories``, whose paths name experiment and fold, as one PNG."""
    experiments: dict[tuple[str, str, str], dict[int, pd.DataFrame]] = {}
    for path in sorted(histories):
        strategy, model, cohort, fold = experiment_of(path)
        experiments.setdefault((strategy, model, cohort), {})[fold] = pd.read_csv(
            whole_table(path), sep="\t"
        )
    with style():
        save_figure(draw_histories(experiments), output, DPI)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--histories", type=Path, nargs="+", required=True, help="history.tsv ...")
    parser.add_argument("--output", type=Path, required=True, help="picture (PNG)")
    plot_history(**vars(parser.parse_args()))


if __name__ == "__main__":
    with exit_on_error():
        main()
