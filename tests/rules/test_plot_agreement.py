"""Agreement of volumes: scales, zeros, texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.text import Text

from petct.metrics import EXPERIMENT_COLUMNS, read_table
from petct.plots import style
from plot_agreement import choose_limits, draw_agreement, plot_agreement, summarise_ratio


def write_metrics(
    path: Path, experiments: list[tuple[str, str, str]], volumes: list[tuple[float, float]]
) -> Path:
    """metrics.tsv of experiments with the given reference and predicted volumes; SUV 5."""
    rows = [
        {
            **dict(zip(EXPERIMENT_COLUMNS, experiment, strict=True)),
            **{"study": f"s{i}", "reference_ml": reference, "predicted_ml": predicted},
            **{"reference_tlg": 5 * reference, "predicted_tlg": 5 * predicted},
        }
        for experiment in experiments
        for i, (reference, predicted) in enumerate(volumes)
    ]
    pd.DataFrame(rows).to_csv(path, sep="\t", index=False)
    return path


@pytest.mark.parametrize(
    ("reference", "predicted", "limits"),
    [
        # From below the smallest reference that there is to above the largest volume.
        ([0.0, 30.0, 150.0], [70.0, 0.5, 180.0], (10.0, 200.0)),
        ([0.0, 0.3], [0.0, 0.0], (0.1, 1.0)),
        ([0.0, 2.0], [501.0, 3.0], (1.0, 1000.0)),
        ([0.0, 2.0], [500.0, 3.0], (1.0, 500.0)),
        # Only studies without lesions, with and without false alarms.
        ([0.0, 0.0], [0.0, 40.0], (1.0, 50.0)),
        ([0.0, 0.0], [0.0, 0.0], (1.0, 10.0)),
    ],
)
def test_limits(
    reference: list[float], predicted: list[float], limits: tuple[float, float]
) -> None:
    assert choose_limits(np.array(reference), np.array(predicted)) == pytest.approx(limits)


def test_ratio_of_studies_that_have_both() -> None:
    reference, predicted = np.array([0.0, 10.0, 10.0, 10.0]), np.array([5.0, 0.0, 5.0, 10.0])
    assert summarise_ratio(reference, predicted) == "median ratio 0.75, n = 2"
    assert summarise_ratio(reference[:2], predicted[:2]) == "n = 0"


def test_zeros_lie_on_the_axes_and_nothing_outside(tmp_path: Path) -> None:
    volumes = [(0.0, 0.0), (0.0, 0.02), (40.0, 0.0), (300.0, 7000.0)]
    metrics = write_metrics(tmp_path / "metrics.tsv", [("one_step", "unet", "all")], volumes)
    with style():
        figure = draw_agreement(read_table(metrics))
        figure.draw_without_rendering()
    panels = [axes for axes in figure.findobj(Axes) if isinstance(axes, Axes)]
    for axes, scale in zip(panels, (1, 5), strict=True):
        points = np.asarray(axes.collections[0].get_offsets())
        assert points.tolist() == [[scale * r, scale * p] for r, p in volumes]
        places = axes.transAxes.inverted().transform(axes.transData.transform(points))
        assert places.min() == pytest.approx(0.0)
        assert places.max() < 1.0
        # What is little stays apart from nothing, and equal values lie on the diagonal.
        assert 0.0 < places[1, 1] < 0.05
        diagonal = axes.transData.transform([[50.0, 50.0], [2000.0, 2000.0]])
        width = diagonal[1] - diagonal[0]
        assert width[0] == pytest.approx(width[1])


@pytest.mark.parametrize("count", [1, 3, 8])
def test_every_text_is_inside_the_figure_and_free_of_others(tmp_path: Path, count: int) -> None:
    experiments = [("threshold", "suv_4", "none")] + [
        (f"two_step_{i % 4}", f"nnunet_residual_{i}", "positive") for i in range(count)
    ]
    volumes = [(0.0, 3.0), (0.05, 2000.0), (900.0, 0.0)]
    metrics = write_metrics(tmp_path / "metrics.tsv", experiments, volumes)
    with style():
        figure = draw_agreement(read_table(metrics))
        figure.draw_without_rendering()
        boxes = [
            (text.get_text(), text.get_window_extent())
            for text in figure.findobj(Text)
            if text.get_visible() and text.get_text().strip()
        ]
    titles = [text for text, _ in boxes if "·" in text]
    assert len(titles) == count + 1
    assert titles[-1] == "threshold · suv_4"
    for i, (text, box) in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, text
        for other, other_box in boxes[:i]:
            assert not box.overlaps(other_box), (text, other)


def test_the_same_picture_twice(tmp_path: Path) -> None:
    metrics = write_metrics(tmp_path / "m.tsv", [("one_step", "unet", "all")], [(1.0, 2.0)])
    for name in ("a.png", "b.png"):
        plot_agreement(metrics, tmp_path / "plots" / name)
    assert (tmp_path / "plots/a.png").read_bytes() == (tmp_path / "plots/b.png").read_bytes()
