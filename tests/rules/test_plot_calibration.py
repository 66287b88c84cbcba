"""Reliability curves: what they go through, what the legend says, and room for many experiments."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from petct.metrics import EXPERIMENT_COLUMNS, read_table
from petct.plots import style
from plot_calibration import draw_calibration, plot_calibration, pool_bins
from tabulate_calibration import tabulate_calibration

SETTINGS: dict[str, Any] = {"seed": 1, "bootstrap_samples": 50, "confidence": 0.95}


def tables(
    folder: Path, experiments: list[tuple[str, str, str]], studies: int
) -> tuple[Path, Path]:
    """calibration.tsv and its summary: in bins of 0.25, half as many lesions as promised."""
    low = np.arange(4) / 4
    rows = [
        pd.DataFrame(
            {
                **dict(zip(EXPERIMENT_COLUMNS, experiment, strict=True)),
                **{"fold": 0, "study": f"s{i}", "patient": f"p{i}"},
                **{"bin_low": low, "bin_high": low + 0.25},
                "voxels": [800, 80, 0, 8],
                "probability_sum": (low + 0.125) * [800, 80, 0, 8],
                "lesion_voxels": (0.5 * (low + 0.125) * [800, 80, 0, 8]).round().astype(int),
            }
        )
        for experiment in experiments
        for i in range(studies)
    ]
    source, table, summary = (folder / name for name in ("bins.tsv", "table.tsv", "summary.tsv"))
    pd.concat(rows).to_csv(source, sep="\t", index=False)
    tabulate_calibration([source], SETTINGS, table, summary)
    return table, summary


def test_bins_are_pooled_over_studies_and_empty_ones_left_out(tmp_path: Path) -> None:
    table, _ = tables(tmp_path, [("one_step", "unet", "all")], 3)
    pooled = pool_bins(read_table(table))
    assert pooled["voxels"].tolist() == [2400, 240, 24]
    assert pooled["probability"].tolist() == pytest.approx([0.125, 0.375, 0.875])
    assert pooled["lesion_share"].tolist() == pytest.approx([50 / 800, 15 / 80, 4 / 8])


@pytest.mark.parametrize("cohorts", [["all"], ["all", "positive"]])
@pytest.mark.parametrize("models", [1, 6])
@pytest.mark.parametrize("strategies", [1, 3])
def test_every_text_is_inside_the_figure_and_free_of_others(
    tmp_path: Path, strategies: int, models: int, cohorts: list[str]
) -> None:
    experiments = [
        (f"two_step_{s}", f"nnunet_residual_{m}", cohort)
        for s in range(strategies)
        for m in range(models)
        for cohort in cohorts
    ]
    table, summary = tables(tmp_path, experiments, 2)
    with style():
        figure = draw_calibration(read_table(table), read_table(summary))
        figure.draw_without_rendering()
        boxes = [
            (text.get_text(), text.get_window_extent())
            for text in figure.findobj(Text)
            if text.get_visible() and text.get_text().strip()
        ]
    assert sum(text.endswith("n = 2") for text, _ in boxes) == len(experiments)
    assert sum(text.startswith("ECE of voxels given ≥ 0.25") for text, _ in boxes) == (
        strategies * len(cohorts)
    )
    for i, (text, box) in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, text
        for other, other_box in boxes[:i]:
            assert not box.overlaps(other_box), (text, other)


def test_an_undefined_error_is_said(tmp_path: Path) -> None:
    table, summary = tables(tmp_path, [("one_step", "unet", "all")], 1)
    summary_rows = read_table(summary).assign(ece_suspected=math.nan)
    with style():
        figure = draw_calibration(read_table(table), summary_rows)
    texts = [text.get_text() for text in figure.findobj(Text)]
    assert "unet: undefined, n = 1" in texts


def test_the_same_picture_twice(tmp_path: Path) -> None:
    table, summary = tables(tmp_path, [("one_step", "unet", "all")], 2)
    for name in ("a.png", "b.png"):
        plot_calibration(table, summary, tmp_path / "plots" / name)
    assert (tmp_path / "plots/a.png").read_bytes() == (tmp_path / "plots/b.png").read_bytes()
