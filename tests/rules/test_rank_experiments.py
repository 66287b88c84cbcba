"""Ranks of experiments whose order is certain, or a coin's."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from metrics_tables import SETTINGS, score, write_metrics
from petct.errors import PetctError
from petct.metrics import read_table
from rank_experiments import rank_experiments, share_ranks


def rows_of(
    model: str, dice: list[float | None], strategy: str = "one_step"
) -> list[dict[str, Any]]:
    """Studies s0, s1, ... of as many patients; None: a negative study."""
    names = {"strategy": strategy, "model": model, "cohort": "all"}
    return [names | score(f"s{i}", f"p{i}", value) for i, value in enumerate(dice)]


def rank(tmp_path: Path, rows: list[dict[str, Any]]) -> pd.DataFrame:
    metrics = write_metrics(tmp_path / "metrics.tsv", pd.DataFrame(rows))
    rank_experiments(metrics, SETTINGS, tmp_path / "tables" / "ranks.tsv")
    return read_table(tmp_path / "tables" / "ranks.tsv")


def test_better_in_every_patient_is_first_in_every_resample(tmp_path: Path) -> None:
    dice: list[float | None] = [0.2, 0.5, 0.6, None]
    better = [None if value is None else value + 0.1 for value in dice]
    table = rank(tmp_path, [*rows_of("poor", dice), *rows_of("good", better)])
    assert table["model"].tolist() == ["good", "poor"]
    for column in ("rank", "rank_mean", "rank_low", "rank_high"):
        assert table[column].tolist() == [1, 2]
    assert table["first_share"].tolist() == [1, 0]
    assert table[["share_1", "share_2"]].to_numpy().tolist() == [[1, 0], [0, 1]]
    assert table["tau_mean"].tolist() == [1, 1]
    assert (table["studies"][0], table["patients"][0]) == (3, 3)
    assert table["dice_mean"].tolist() == pytest.approx([1.6 / 3, 1.3 / 3])


def test_two_patients_who_disagree_by_hand(tmp_path: Path) -> None:
    """a is better in one patient by 0.3, b in the other by 0.2: a quarter of the draws for b."""
    table = rank(tmp_path, [*rows_of("a", [0.8, 0.3]), *rows_of("b", [0.5, 0.5])])
    assert table["model"].tolist() == ["a", "b"]
    assert table["first_share"].tolist() == pytest.approx([0.75, 0.25], abs=0.06)
    assert table["rank_mean"].tolist() == pytest.approx([1.25, 1.75], abs=0.06)
    assert table["tau_mean"][0] == pytest.approx(0.75 - 0.25, abs=0.12)
    assert (table["rank_low"].tolist(), table["rank_high"].tolist()) == ([1, 1], [2, 2])


def test_equal_experiments_share_their_ranks(tmp_path: Path) -> None:
    rows = [*rows_of("a", [0.4, 0.1]), *rows_of("b", [0.4, 0.1]), *rows_of("c", [0.3, 0.0])]
    table = rank(tmp_path, rows)
    assert table["rank"].tolist() == [1.5, 1.5, 3]
    assert table["first_share"].tolist() == [0.5, 0.5, 0]
    assert table["rank_mean"].tolist() == [1.5, 1.5, 3]


def test_shares_of_ties() -> None:
    """First a wins before b and c alike, then all three are alike."""
    shares = share_ranks(np.array([[0.9, 0.5, 0.5], [0.4, 0.1 + 0.3, 0.4]]))
    third = 1 / 3
    first, other = [(1 + third) / 2, third / 2, third / 2], [third / 2, *[(0.5 + third) / 2] * 2]
    assert shares.ravel().tolist() == pytest.approx([*first, *other, *other])


def test_without_a_rank(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was scored on fewer studies, and what looks at the reference."""
    rows = [*rows_of("a", [0.4, 0.1]), *rows_of("b", [0.5, 0.2]), *rows_of("few", [0.9])]
    table = rank(tmp_path, [*rows, *rows_of("a", [0.9, 0.9], "oracle_boxes")])
    assert table["model"].tolist() == ["b", "a", "few", "a"]
    assert table["rank"].tolist()[:2] == [1, 2]
    assert all(map(math.isnan, table["rank"].tolist()[2:]))
    printed = capsys.readouterr().out
    assert "note: one_step / few / all has no rank" in printed
    assert "note: oracle_boxes / a / all has no rank" in printed


def test_one_experiment_and_one_patient(tmp_path: Path) -> None:
    table = rank(tmp_path, rows_of("a", [0.4]))
    assert (table["rank"][0], table["dice_mean"][0]) == (1, 0.4)
    for column in ("rank_mean", "rank_low", "first_share", "share_1", "tau_mean"):
        assert math.isnan(table[column][0])


def test_without_positives_there_are_no_ranks(tmp_path: Path) -> None:
    table = rank(tmp_path, [*rows_of("a", [None]), *rows_of("b", [None])])
    assert table["model"].tolist() == ["a", "b"]
    assert table["rank"].isna().all()
    assert table["first_share"].isna().all()


def test_no_rows(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.tsv"
    pd.DataFrame(columns=list(rows_of("a", [0.1])[0])).to_csv(metrics, sep="\t", index=False)
    with pytest.raises(PetctError, match="no rows"):
        rank_experiments(metrics, SETTINGS, tmp_path / "ranks.tsv")
