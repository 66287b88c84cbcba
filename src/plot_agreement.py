"""Draw predicted against reference volume and total lesion glycolysis: a pair of panels per
experiment, a point per study.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from petct.command_line import exit_on_error
from petct.comparisons import experiments_of
from petct.metrics import EXPERIMENT_COLUMNS, read_table
from petct.plots import BASELINE_STRATEGY, GREY, model_colours, save_figure, style

# What is compared: the columns' ending and the panels' title.
QUANTITIES = {"ml": "volume [mL]", "tlg": "TLG [g]"}
PAIRS_PER_ROW = 3
PAIR_INCH = (4.4, 2.45)
DPI = 130


def summarise_ratio(reference: np.ndarray, predicted: np.ndarray) -> str:
    """The median of predicted / reference over studies that have both, and their number."""
    both = (reference > 0) & (predicted > 0)
    if not both.any():
        return "n = 0"
    return f"median ratio {np.median(predicted[both] / reference[both]):.2f}, n = {both.sum()}"


def choose_limits(reference: np.ndarray, predicted: np.ndarray) -> tuple[float, float]:
    """Where an axis turns from logarithmic to linear, to reach 0, and where it ends.

    The first is the power of ten below every reference that is not 0; the second 1, 2 or 5 times a
    power of ten, and at least ten times the first.
    """
    filled = reference[reference > 0]
    lowest = 10.0 ** np.floor(np.log10(filled.min())) if filled.size else 1.0
    highest = max(reference.max(), predicted.max(), 10 * lowest)
    decade = 10.0 ** np.floor(np.log10(highest))
    return lowest, next(step * decade for step in (1, 2, 5, 10) if step * decade >= highest)


def draw_panel(
    axes: Axes,
    reference: np.ndarray,
    predicted: np.ndarray,
    colour: str,
    limits: tuple[float, float],
) -> None:
    """One quantity of one experiment: the diagonal is agreement."""
    lowest, highest = limits
    axes.set_xscale("symlog", linthresh=lowest, linscale=0.4)
    axes.set_yscale("symlog", linthresh=lowest, linscale=0.4)
    axes.set_xlim(0.0, highest)
    axes.set_ylim(0.0, highest)
    axes.set_box_aspect(1.0)
    decades = np.arange(int(np.log10(highest / lowest) + 1e-9) + 1)
    # At most three fit beside 0, counted from the top, which leaves room around 0.
    ticks = lowest * 10.0 ** decades[:: -max(1, -(-len(decades) // 3))]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks([0.0, *ticks], ["0", *(f"{tick:g}" for tick in ticks)])
        axis.set_ticks([], minor=True)
    axes.grid()
    axes.plot([0, highest], [0, highest], color=GREY, linewidth=0.8, linestyle=(0, (4, 2)))
    axes.scatter(
        reference, predicted, s=12, color=colour, alpha=0.6, linewidths=0, clip_on=False, zorder=3
    )
    axes.set_title(summarise_ratio(reference, predicted), loc="left", fontsize=7)


def draw_agreement(metrics: pd.DataFrame) -> Figure:
    """The figure: ``metrics`` has one row per study and experiment.

    Axes are logarithmic, and linear near 0, so that studies of which nothing was found lie on the
    horizontal axis and false alarms on the vertical one. All panels of a quantity share a scale.
    """
    # Baselines last.
    experiments = sorted(
        experiments_of(metrics), key=lambda e: (e.strategy == BASELINE_STRATEGY, e)
    )
    groups = dict(list(metrics.groupby(EXPERIMENT_COLUMNS)))
    colours = model_colours(
        model for strategy, model, _ in experiments if strategy != BASELINE_STRATEGY
    )
    columns = min(len(experiments), PAIRS_PER_ROW)
    rows = -(-len(experiments) // columns)
    figure = Figure(figsize=(columns * PAIR_INCH[0], rows * PAIR_INCH[1]), layout="constrained")
    places = figure.subfigures(rows, columns, squeeze=False).ravel()
    for place, experiment in zip(places, experiments, strict=False):
        strategy, model, cohort = experiment
        baseline = strategy == BASELINE_STRATEGY
        place.suptitle(
            f"{strategy} · {model}" + ("" if baseline else f" · {cohort}"),
            x=0.03,
            ha="left",
            fontsize=9,
        )
        pair = place.subplots(1, 2)
        studies = groups[experiment]
        for axes, (ending, title) in zip(pair, QUANTITIES.items(), strict=True):
            both = [f"reference_{ending}", f"predicted_{ending}"]
            limits = choose_limits(*metrics[both].to_numpy(float).T)
            reference, predicted = studies[both].to_numpy(float).T
            colour = GREY if baseline else colours[model]
            draw_panel(axes, reference, predicted, colour, limits)
            axes.set_xlabel(f"reference {title}")
            axes.set_ylabel("predicted")
    return figure


def plot_agreement(metrics: Path, output: Path) -> None:
    """Draw ``metrics``, the studies' scores."""
    with style():
        save_figure(draw_agreement(read_table(metrics)), output, DPI)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--metrics", type=Path, required=True, help="metrics.tsv")
    parser.add_argument("--output", type=Path, required=True, help="picture (PNG)")
    plot_agreement(**vars(parser.parse_args()))


if __name__ == "__main__":
    with exit_on_error():
        main()
