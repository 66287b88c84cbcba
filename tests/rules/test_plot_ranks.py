"""The picture of the ranks: its rows, its texts, and odd tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.text import Text

from metrics_tables import SETTINGS, simulate_metrics, write_metrics
from petct.metrics import read_table
from petct.plots import style
from plot_ranks import draw_ranks, plot_ranks
from rank_experiments import rank_experiments


def ranks_of(folder: Path, count: int, positives: int) -> Path:
    """``count`` experiments of rising Dice and a baseline."""
    experiments = [(f"two_step_{i % 3}", f"nnunet_{i}", "positive", i / 20) for i in range(count)]
    table = simulate_metrics(
        [*experiments, ("threshold", "suv_4", "none", 0.9)],
        positives,
        2,
        positives + 2,
        np.random.default_rng(0),
    )
    rank_experiments(write_metrics(folder / "metrics.tsv", table), SETTINGS, folder / "ranks.tsv")
    return folder / "ranks.tsv"


def test_a_row_per_experiment_a_column_per_rank(tmp_path: Path) -> None:
    ranks = read_table(ranks_of(tmp_path, 3, 10))
    with style():
        figure = draw_ranks(ranks)
    texts = [text.get_text() for text in figure.findobj(Text)]
    # The untrained cohort of a baseline goes without saying.
    assert "threshold · suv_4" in texts
    assert "two_step_2 · nnunet_2 · positive" in texts
    (mesh,) = (mesh for mesh in figure.findobj(QuadMesh))
    shares = np.asarray(mesh.get_array()).reshape(4, 4)
    assert shares.sum(axis=0) == pytest.approx(np.ones(4), abs=1e-5)
    assert shares[0, 0] == ranks["first_share"][0]


@pytest.mark.parametrize("count", [0, 1, 5, 16])
@pytest.mark.parametrize("positives", [0, 1, 6])
def test_every_text_is_inside_the_figure_and_free_of_others(
    tmp_path: Path, count: int, positives: int
) -> None:
    with style():
        figure = draw_ranks(read_table(ranks_of(tmp_path, count, positives)))
        figure.draw_without_rendering()
        boxes = [
            (text.get_text(), text.get_window_extent())
            for text in figure.findobj(Text)
            if text.get_visible() and text.get_text().strip()
        ]
    assert any("no ranks" in text for text, _ in boxes) == (positives == 0)
    for i, (text, box) in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0, text
        assert box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0, text
        assert box.y1 <= figure.bbox.y1, text
        for other, other_box in boxes[:i]:
            assert not box.overlaps(other_box), f"{text!r} over {other!r}"


def test_picture_repeats_itself(tmp_path: Path) -> None:
    ranks = ranks_of(tmp_path, 3, 5)
    for name in ("a.png", "b.png"):
        plot_ranks(ranks, tmp_path / "plot" / name)
    assert (tmp_path / "plot/a.png").read_bytes() == (tmp_path / "plot/b.png").read_bytes()
