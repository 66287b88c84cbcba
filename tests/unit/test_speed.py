"""The benchmark's figures in words."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from petct.contest import COLUMNS, Contestant, Run, summarise
from petct.speed import (
    read_benchmark,
    show_amount,
    show_goal,
    show_markdown,
    show_ratio,
    speed_table,
    tell_speed,
)


def make_benchmark(path: Path) -> pd.DataFrame:
    """Ours takes 2 s and 1 GB; the peer 12 s and 2 GB; a plan alone 70 s."""
    ours, theirs, plan = (
        [Run(seconds, 1.0, seconds, gb, 1.0, {"dice": dice})]
        for seconds, gb, dice in ((2.0, 1.0, 0.6), (12.0, 2.0, 0.59), (70.0, 0.4, 0.0))
    )
    goals = {"dice": (0.02, math.inf)}
    inference = {"task": "inference", "size": "clinical", "unit": "study"}
    rows = [
        inference | summarise(Contestant("petct", "", []), ours, ours),
        inference | summarise(Contestant("peer", "as it comes", [], 5.0, 2.0), theirs, ours),
        inference | summarise(Contestant("peer", "x", [], 5.0, 3.0, {}, goals), theirs, ours),
        {"task": "planning", "size": "1611 studies", "unit": "plan"}
        | summarise(Contestant("petct", "", [], most_s=60.0, most_gb=1.0), plan, plan),
    ]
    pd.DataFrame(rows, columns=COLUMNS).to_csv(path, sep="\t", index=False)
    return read_benchmark(path)


def test_what_was_missed_is_told_with_by_how_much(tmp_path: Path) -> None:
    assert tell_speed(make_benchmark(tmp_path / "benchmark.tsv")) == [
        "1 of 3 comparisons reached all that they aimed at; the others:",
        "inference, clinical against peer (x): 1/2.00 of the memory, goal 1/3; dice is not within"
        " its goal.",
        "planning, 1611 studies: 70.0 s, goal 60 s.",
    ]


def test_tables_have_a_row_per_comparison(tmp_path: Path) -> None:
    benchmark = make_benchmark(tmp_path / "benchmark.tsv")
    lines = show_markdown(benchmark).splitlines()
    assert lines[2] == (
        "| inference, clinical | peer, as it comes | 2.00 s, 1.00 GB | 12.0 s, 2.00 GB"
        " | 6.00 (6.00–6.00) | 2.00 | time × 5, memory × 2 | yes |"
    )
    assert lines[3].endswith("| time × 5, memory × 3 and quality | no: memory, dice |")
    assert lines[4] == (
        "| planning, 1611 studies | – | 70.0 s, 0.400 GB | – | – | – | ≤ 60 s, ≤ 1 GB | no: time |"
    )
    assert len(lines) == 5
    assert show_goal(benchmark.iloc[2].to_dict()).endswith("dice within 0.02 to inf")
    assert show_ratio(benchmark.iloc[0].to_dict()) == ""
    assert len(speed_table(benchmark).rows) == 4


def test_three_digits_of_a_number() -> None:
    texts = [show_amount(value) for value in (0.0, 0.01234, 4.0, 12.34, 1234.5, math.nan)]
    assert texts == ["0", "0.0123", "4.00", "12.3", "1,234", "–"]
