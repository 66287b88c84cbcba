"""The benchmark's figure: every row in full, and what is compared where time is equal."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.text import Text

from petct.contest import COLUMNS, Contestant, Run, summarise
from petct.plots import style
from petct.speed import read_benchmark
from plot_benchmark import draw_benchmark, plot_benchmark

LONG = "best known: " + "a setting that takes some words to tell, " * 4


def benchmark(path: Path) -> pd.DataFrame:
    """Two kinds of work against a peer of many words: 2 s and its 12 s; one of equal time."""
    rows = []
    for task, seconds, dice in (("inference", 12.0, 0.6), ("budget", 2.0, 0.4)):
        ours = [Run(2.0, 1.0, 2.0, 1.0, 1.0, {"dice": 0.7})]
        theirs = [Run(seconds, 1.0, seconds, 2.0, 1.0, {"dice": dice})]
        told = {"task": task, "size": "clinical", "unit": "study"}
        rows += [
            told | summarise(Contestant("petct", "", []), ours, ours),
            told | summarise(Contestant("peer", LONG, [], 5.0), theirs, ours),
        ]
    pd.DataFrame(rows, columns=COLUMNS).to_csv(path, sep="\t", index=False)
    return read_benchmark(path)


def texts(table: pd.DataFrame) -> list[str]:
    """All that is written in the figure, and that none of it lies outside or over another."""
    with style():
        figure = draw_benchmark(table)
        figure.draw_without_rendering()
        beyond = [
            tick.label1
            for axes in figure.axes
            for tick in [*axes.xaxis.get_major_ticks(), *axes.xaxis.get_minor_ticks()]
            if not axes.get_xlim()[0] <= tick.get_loc() <= axes.get_xlim()[1]
        ]
        boxes = [
            (text.get_text(), text.get_window_extent())
            for text in figure.findobj(Text)
            if text.get_visible() and text.get_text().strip() and text not in beyond
        ]
    for i, (text, box) in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, text
        for other, other_box in boxes[:i]:
            assert not box.overlaps(other_box), f"{text!r} over {other!r}"
    return [text for text, _ in boxes]


def test_settings_are_written_in_full(tmp_path: Path) -> None:
    written = " ".join(text.replace("\n", " ") for text in texts(benchmark(tmp_path / "b.tsv")))
    assert written.count(LONG.strip()) == 2


def test_equal_time_is_compared_by_what_was_learnt(tmp_path: Path) -> None:
    written = texts(benchmark(tmp_path / "b.tsv"))
    # The ratio of time of the one, and both contestants' Dice of the other.
    assert [text for text in written if text in ("6.00", "1.00")] == ["6.00"]
    assert {"0.700", "0.400"} <= set(written)


def test_a_table_of_one_kind_is_drawn(tmp_path: Path) -> None:
    table = benchmark(tmp_path / "b.tsv")
    for task in ("inference", "budget"):
        assert texts(table[table["task"] == task])
    plot_benchmark(table, tmp_path / "b.png")
    assert (tmp_path / "b.png").stat().st_size > 10_000
