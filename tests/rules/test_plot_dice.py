"""The strip plot: order of the experiments, its texts, and odd tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from compare_experiments import compare_experiments
from metrics_tables import SETTINGS, score, write_metrics
from petct.metrics import EXPERIMENT_COLUMNS, read_table
from petct.plots import style
from plot_dice import draw_dice, plot_dice, row_positions

EXPERIMENTS = [
    ("threshold", "suv_4", "none", 0.9),
    ("coarse", "unet", "all", 0.3),
    ("one_step", "unet", "all", 0.5),
    ("one_step", "unet", "positive", 0.7),
]


def tables(
    folder: Path, experiments: list[tuple[str, str, str, float]], positives: int, negatives: int
) -> tuple[Path, Path]:
    """metrics.tsv and comparison.tsv of experiments with the given Dice in every study."""
    rows: list[dict[str, Any]] = []
    for *names, dice in experiments:
        for i in range(positives + negatives):
            rows.append(
                dict(zip(EXPERIMENT_COLUMNS, names, strict=True))
                | score(f"s{i}", f"p{i}", dice if i < positives else None)
                | {"predicted_ml": 3.0 * (i % 2), "fp_volume_ml": 30.0 * (i % 2)}
            )
    metrics = write_metrics(folder / "metrics.tsv", pd.DataFrame(rows))
    comparison = folder / "comparison.tsv"
    compare_experiments(metrics, SETTINGS, comparison)
    return metrics, comparison


def test_strategies_stand_together_and_baselines_last(tmp_path: Path) -> None:
    _, comparison = tables(tmp_path, EXPERIMENTS, 3, 2)
    rows = row_positions(read_table(comparison))
    assert rows[["strategy", "cohort"]].agg(" ".join, axis=1).tolist() == [
        "one_step positive",
        "one_step all",
        "coarse all",
        "threshold none",
    ]
    assert rows["begins"].tolist() == [True, False, True, True]
    assert np.diff(rows["y"]).round(6).min() == 1


@pytest.mark.parametrize("count", [1, 4, 20])
@pytest.mark.parametrize(("positives", "negatives"), [(3, 2), (3, 0), (0, 3), (1, 0)])
def test_every_text_is_inside_the_figure_and_free_of_others(
    tmp_path: Path, count: int, positives: int, negatives: int
) -> None:
    experiments = [
        (f"two_step_{i % 4}", f"nnunet_residual_{i}", "positive", 0.02 * i) for i in range(count)
    ]
    metrics, comparison = tables(tmp_path, experiments, positives, negatives)
    with style():
        figure = draw_dice(read_table(metrics), read_table(comparison))
        figure.draw_without_rendering()
        boxes = [
            (text.get_text(), text.get_window_extent())
            for text in figure.findobj(Text)
            if text.get_visible() and text.get_text().strip()
        ]
    assert sum(text.startswith("n = ") for text, _ in boxes) == 2 * count
    for i, (text, box) in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0, text
        assert box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0, text
        assert box.y1 <= figure.bbox.y1, text
        for other, other_box in boxes[:i]:
            assert not box.overlaps(other_box), f"{text!r} over {other!r}"


def test_picture_repeats_itself(tmp_path: Path) -> None:
    metrics, comparison = tables(tmp_path, EXPERIMENTS, 3, 2)
    for name in ("a.png", "b.png"):
        plot_dice(metrics, comparison, tmp_path / "plot" / name)
    assert (tmp_path / "plot/a.png").read_bytes() == (tmp_path / "plot/b.png").read_bytes()


def test_the_cohort_that_trained_shows_in_the_points(tmp_path: Path) -> None:
    """one_step is drawn first, trained on positive studies: rings; then on all: discs."""
    metrics, comparison = tables(tmp_path, EXPERIMENTS, 3, 2)
    with style():
        figure = draw_dice(read_table(metrics), read_table(comparison))
    faces = [len(points.get_facecolor()) for points in figure.axes[0].collections]
    assert faces[:2] == [0, 1]
