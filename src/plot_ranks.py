"""Draw how often each experiment takes each rank when patients are drawn again."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from petct.command_line import exit_on_error
from petct.comparisons import UNTRAINED
from petct.metrics import EXPERIMENT_COLUMNS, read_table
from petct.plots import BLUE, INK, save_figure, style

LETTER_INCH, CELL_INCH, TEXT_INCH, MARGIN_INCH = 0.075, 0.34, 1.7, 0.08
TOP_INCH, ROW_INCH, BOTTOM_INCH = 0.95, 0.28, 0.5
DPI = 150


def draw_ranks(ranks: pd.DataFrame) -> Figure:
    """The figure: a row per ranked experiment of the table of ranks, a column per rank."""
    ranked = ranks[ranks["rank"].notna()]
    count = len(ranked)
    labels = [
        " · ".join(name for name in names if name != UNTRAINED)
        for names in ranked[EXPERIMENT_COLUMNS].itertuples(index=False)
    ]
    columns = max(count, 8)
    left = 2 * MARGIN_INCH + LETTER_INCH * max(20, *map(len, [*labels, ""]))
    width = left + columns * CELL_INCH + TEXT_INCH
    rows_inch = max(count, 1) * ROW_INCH
    height = TOP_INCH + rows_inch + BOTTOM_INCH
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes(
        (
            left / width,
            BOTTOM_INCH / height,
            max(count, 1) * CELL_INCH / width,
            rows_inch / height,
        )
    )
    axes.set_xlim(0.5, max(count, 1) + 0.5)
    axes.set_ylim(max(count, 1) - 0.5, -0.5)
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)
    axes.set_xlabel("rank by mean Dice")
    if not count:
        axes.set_xticks([])
        axes.text(0.5, 0.0, "no study with lesions: no ranks", va="center")
        return figure
    axes.set_xticks(range(1, count + 1))
    shares = ranked[[f"share_{rank}" for rank in range(1, count + 1)]].to_numpy(float)
    whites = LinearSegmentedColormap.from_list("share", ["white", BLUE])
    axes.pcolormesh(
        np.arange(count + 1) + 0.5,
        np.arange(count + 1) - 0.5,
        shares,
        cmap=whites,
        vmin=0.0,
        vmax=1.0,
        edgecolors="white",
        linewidth=1.0,
    )
    beside = axes.get_yaxis_transform()
    panel_inch = count * CELL_INCH
    for y, (label, row) in enumerate(zip(labels, ranked.to_dict("records"), strict=True)):
        axes.text(
            -0.1 / panel_inch, y, label, transform=beside, ha="right", va="center", fontsize=8
        )
        if not np.isnan(row["rank_low"]):
            axes.plot([row["rank_low"], row["rank_high"]], [y, y], color=INK, linewidth=1.3)
        axes.plot([row["rank"]], [y], "D", color=INK, markersize=5, markeredgecolor="white")
        for inch, text in (
            (0.55, f"{row['dice_mean']:.2f}"),
            (1.35, f"{100 * row['first_share']:.0f} %"),
        ):
            axes.text(
                1 + inch / panel_inch, y, text, transform=beside, ha="right", va="center",
                fontsize=8,
            )  # fmt: skip
    for inch, text in ((0.55, "Dice"), (1.35, "first in")):
        axes.text(
            1 + inch / panel_inch, -0.7, text, transform=beside, ha="right", fontsize=8, color=INK
        )
    first = ranked.iloc[0]
    header = [
        f"Studies with lesions: {first['studies']:.0f}; patients: {first['patients']:.0f}.",
        "Diamond: rank observed. Shade, bar: how often each rank is taken, and the",
        "interval, when the patients are drawn again.",
    ]
    if not np.isnan(first["tau_mean"]):
        header[-1] += f" Kendall's τ with the order observed: {first['tau_mean']:.2f}."
    figure.text(MARGIN_INCH / width, 1 - 0.1 / height, "\n".join(header), va="top", fontsize=8)
    return figure


def plot_ranks(ranks: Path, output: Path) -> None:
    """Draw the table ``ranks``."""
    with style():
        save_figure(draw_ranks(read_table(ranks)), output, DPI)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=Path, required=True, help="ranks.tsv")
    parser.add_argument("--output", type=Path, required=True, help="picture (PNG)")
    plot_ranks(**vars(parser.parse_args()))


if __name__ == "__main__":
    with exit_on_error():
        main()
