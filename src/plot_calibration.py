"""Draw how often voxels of a given probability are lesion: a line per network, a panel per strategy
and cohort.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from petct.command_line import exit_on_error
from petct.metrics import EXPERIMENT_COLUMNS, read_table
from petct.plots import GREY, model_colours, save_figure, style

PANELS_PER_ROW = 4
# A panel: its width, its height without the legend, and a line of the legend.
PANEL_INCH, LINE_INCH = (3.3, 4.1), 0.17
DPI = 130


def pool_bins(bins: pd.DataFrame) -> pd.DataFrame:
    """Of all studies of an experiment together, the bins that hold voxels: what they were given on
    average (``probability``) and the share of them that is lesion (``lesion_share``).
    """
    columns = ["voxels", "probability_sum", "lesion_voxels"]
    pooled = bins.groupby("bin_low", as_index=False)[columns].sum()
    pooled = pooled[pooled["voxels"] > 0]
    return pooled.assign(
        probability=pooled["probability_sum"] / pooled["voxels"],
        lesion_share=pooled["lesion_voxels"] / pooled["voxels"],
    )


def describe(row: pd.Series) -> str:
    """An experiment's line in the legend."""
    error = f"{row['ece_suspected']:.2f}" if pd.notna(row["ece_suspected"]) else "undefined"
    if pd.notna(row["ece_suspected_low"]):
        error += f" ({row['ece_suspected_low']:.2f}–{row['ece_suspected_high']:.2f})"
    return f"{row['model']}: {error}, n = {row['studies']}"


def draw_frame(curves: Axes, counts: Axes, title: str, most_voxels: float) -> None:
    """What a panel shows whatever its networks do: the diagonal and the axes."""
    curves.set_title(title, loc="left", fontsize=9)
    curves.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=(0, (4, 2)))
    curves.set_xlim(0.0, 1.0)
    curves.set_ylim(0.0, 1.0)
    curves.set_ylabel("share that is lesion")
    curves.grid()
    highest = 10.0 ** np.ceil(np.log10(max(most_voxels, 10.0)))
    counts.set_yscale("log")
    counts.set_ylim(1.0, highest)
    counts.set_yticks([1.0, highest])
    counts.minorticks_off()
    counts.set_ylabel("voxels")
    counts.set_xlabel("probability given")


def draw_calibration(bins: pd.DataFrame, summary: pd.DataFrame) -> Figure:
    """The figure: ``bins`` has one row per experiment, study and bin, ``summary`` one per
    experiment.
    """
    colours = model_colours(summary["model"])
    experiments = {
        experiment: pool_bins(part) for experiment, part in bins.groupby(EXPERIMENT_COLUMNS)
    }
    most_voxels = max(float(pooled["voxels"].max()) for pooled in experiments.values())
    panels = list(summary.groupby(["strategy", "cohort"]))
    columns = min(len(panels), PANELS_PER_ROW)
    rows = -(-len(panels) // columns)
    most = max(len(part) for _, part in panels)
    suspected = bins["bin_high"].min()
    height = PANEL_INCH[1] + LINE_INCH * (most + 1)
    figure = Figure(figsize=(columns * PANEL_INCH[0], rows * height), layout="constrained")
    places = figure.subfigures(rows, columns, squeeze=False).ravel()
    for place, ((strategy, cohort), part) in zip(places, panels, strict=False):
        curves, counts = place.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        draw_frame(curves, counts, f"{strategy} · {cohort}", most_voxels)
        for _, row in part.sort_values("model").iterrows():
            pooled = experiments[tuple(row[key] for key in EXPERIMENT_COLUMNS)]
            colour = colours[row["model"]]
            curves.plot(
                pooled["probability"],
                pooled["lesion_share"],
                color=colour,
                linewidth=1.2,
                marker="o",
                markersize=3,
                clip_on=False,
                label=describe(row),
            )
            counts.plot(pooled["probability"], pooled["voxels"], color=colour, linewidth=1.0)
        handles, labels = curves.get_legend_handles_labels()
        # Every legend takes the room of the longest, so that all panels are alike.
        spare = most - len(part)
        counts.legend(
            [*handles, *(Line2D([], [], linestyle="") for _ in range(spare))],
            [*labels, *[""] * spare],
            title=f"ECE of voxels given ≥ {suspected:g} (interval), n studies",
            title_fontsize=8,
            alignment="left",
            loc="upper left",
            bbox_to_anchor=(-0.1, -0.65),
            borderpad=0.0,
        )
    return figure


def plot_calibration(calibration: Path, summary: Path, output: Path) -> None:
    """Draw the bins of ``calibration``, with the errors and intervals of ``summary``."""
    with style():
        save_figure(draw_calibration(read_table(calibration), read_table(summary)), output, DPI)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calibration", type=Path, required=True, help="calibration.tsv")
    parser.add_argument("--summary", type=Path, required=True, help="calibration_summary.tsv")
    parser.add_argument("--output", type=Path, required=True, help="picture (PNG)")
    plot_calibration(**vars(parser.parse_args()))


if __name__ == "__main__":
    with exit_on_error():
        main()
