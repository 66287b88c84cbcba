"""The forest plot: which comparisons it draws, what it calls them, and that its texts fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from metrics_tables import SETTINGS, simulate_metrics, write_metrics
from pair_experiments import pair_experiments
from petct.metrics import read_table
from petct.plots import style
from plot_differences import (
    arrange_comparisons,
    draw_differences,
    name_comparison,
    plot_differences,
    signed,
)

EXPERIMENTS = [
    ("one_step", "unet_large", "all", 0.5),
    ("one_step", "unet_large", "positive", 0.6),
    ("two_step_prior", "unet_large", "all", 0.6),
    ("one_step", "unetr_large", "all", 0.2),
    ("one_step", "unetr_large", "positive", 0.2),
    ("threshold", "suv_4", "none", 0.3),
]


def differences_of(
    folder: Path, experiments: list[tuple[str, str, str, float]], positives: int, negatives: int
) -> Path:
    rng = np.random.default_rng(0)
    table = simulate_metrics(experiments, positives, negatives, positives + negatives, rng)
    output = folder / "differences.tsv"
    pair_experiments(write_metrics(folder / "metrics.tsv", table), SETTINGS, output)
    return output


def texts_of(differences: pd.DataFrame) -> list[tuple[str, Text]]:
    """Every visible text, after looking that none leaves the figure or lies over another."""
    with style():
        figure = draw_differences(differences, 0.95)
        figure.draw_without_rendering()
        texts = [
            (text.get_text(), text, text.get_window_extent())
            for text in figure.findobj(Text)
            if text.get_visible() and text.get_text().strip()
        ]
    for i, (name, _, box) in enumerate(texts):
        assert figure.bbox.x0 <= box.x0, name
        assert box.x1 <= figure.bbox.x1, name
        assert figure.bbox.y0 <= box.y0, name
        assert box.y1 <= figure.bbox.y1, name
        for other, _, other_box in texts[:i]:
            assert not box.overlaps(other_box), f"{name!r} over {other!r}"
    return [(name, text) for name, text, _ in texts]


def test_comparisons_by_question_the_pooled_ones_first(tmp_path: Path) -> None:
    table = read_table(differences_of(tmp_path, EXPERIMENTS, 12, 6))
    rows = arrange_comparisons(table)
    names = [name_comparison(row) for row in rows.to_dict("records")]
    assert names[:5] == [
        "one_step · mean of 2 pairs",
        "one_step · unet_large",
        "one_step · unetr_large",
        # The only pair of its question: overall and by model it is the same.
        "two_step_prior − one_step · unet_large · all",
        "unet_large − unetr_large · one_step · mean of 2 pairs",
    ]
    assert "threshold · suv_4" in names
    assert [heading.split(",")[0] for heading in rows["heading"] if heading] == [
        "Trained without lesion-free studies",
        "Two steps",
        "One architecture",
        "The best mean Dice",
    ]
    # The closest to the best comes first.
    best = rows[rows["question"] == "best"]
    assert best["difference"].is_monotonic_increasing
    assert np.diff(rows["y"]).round(6).min() == 1


def test_a_row_says_difference_p_and_n(tmp_path: Path) -> None:
    table = read_table(differences_of(tmp_path, EXPERIMENTS, 12, 6))
    texts = [text for text, _ in texts_of(table)]
    rows = len(arrange_comparisons(table))
    assert texts.count("12") == texts.count("6") == rows
    dice = table[(table["metric"] == "dice") & (table["level"] == "overall")].iloc[0]
    assert signed(dice["difference"], 2) in texts


@pytest.mark.parametrize("models", [1, 2, 9])
@pytest.mark.parametrize(("positives", "negatives"), [(5, 3), (5, 0), (0, 3), (1, 0)])
def test_every_text_is_inside_the_figure_and_free_of_others(
    tmp_path: Path, models: int, positives: int, negatives: int
) -> None:
    experiments = [
        ("two_step_boxes" if i % 2 else "one_step", f"nnunet_residual_{i // 2}", cohort, 0.04 * i)
        for i in range(models)
        for cohort in ("all", "positive")
    ]
    texts_of(read_table(differences_of(tmp_path, experiments, positives, negatives)))


def test_without_any_pair_it_says_so(tmp_path: Path) -> None:
    table = read_table(differences_of(tmp_path, EXPERIMENTS[:1], 3, 2))
    assert "no two experiments to compare" in [text for text, _ in texts_of(table)]


@pytest.mark.parametrize(
    ("value", "expected"), [(0.126, "+0.13"), (-0.126, "−0.13"), (-0.001, "0.00"), (0.001, "0.00")]
)
def test_signs(value: float, expected: str) -> None:
    assert signed(value, 2) == expected


def test_picture_repeats_itself(tmp_path: Path) -> None:
    differences = differences_of(tmp_path, EXPERIMENTS, 6, 3)
    for name in ("a.png", "b.png"):
        plot_differences(differences, {"confidence": 0.95}, tmp_path / "plot" / name)
    assert (tmp_path / "plot/a.png").read_bytes() == (tmp_path / "plot/b.png").read_bytes()
