"""Joining score tables: order, exact copies, no doubles."""

from __future__ import annotations

from pathlib import Path

import pytest

from petct.errors import PetctError
from tabulate_metrics import tabulate_metrics

HEADER = "study\tpatient\tstrategy\tmodel\tcohort\tdice\n"


def write(path: Path, *rows: str) -> Path:
    path.write_text(HEADER + "".join(row.replace(" ", "\t") + "\n" for row in rows))
    return path


def test_sorted_by_strategy_model_cohort_study_and_copied_exactly(tmp_path: Path) -> None:
    first = write(
        tmp_path / "a.tsv", "s2 007 one_step unet all 0.10", "s1 NA one_step unet all nan"
    )
    second = write(tmp_path / "b.tsv", "s3 p3 coarse unet positive 1.0")
    third = write(tmp_path / "c.tsv", "s9 p3 coarse unet all 1.0")
    output = tmp_path / "tables" / "metrics.tsv"
    tabulate_metrics([first, second, third], output)
    assert output.read_text() == HEADER + (
        "s9\tp3\tcoarse\tunet\tall\t1.0\n"
        "s3\tp3\tcoarse\tunet\tpositive\t1.0\n"
        "s1\tNA\tone_step\tunet\tall\tnan\n"
        "s2\t007\tone_step\tunet\tall\t0.10\n"
    )


def test_an_empty_fold_adds_nothing(tmp_path: Path) -> None:
    output = tmp_path / "metrics.tsv"
    rows = write(tmp_path / "b.tsv", "s1 p a b c 1.0")
    tabulate_metrics([write(tmp_path / "a.tsv"), rows], output)
    assert output.read_text() == rows.read_text()


def test_a_study_twice_in_one_experiment_is_refused(tmp_path: Path) -> None:
    first = write(tmp_path / "a.tsv", "s1 p one_step unet all 0.1")
    second = write(tmp_path / "b.tsv", "s1 p one_step unet positive 0.1")
    third = write(tmp_path / "c.tsv", "s1 p one_step unet all 0.2")
    tabulate_metrics([first, second], tmp_path / "metrics.tsv")
    with pytest.raises(PetctError, match=r"study s1 .* experiment one_step / unet / all"):
        tabulate_metrics([first, second, third], tmp_path / "metrics.tsv")


def test_other_columns_are_refused(tmp_path: Path) -> None:
    first = write(tmp_path / "a.tsv", "s1 p one_step unet all 0.1")
    second = tmp_path / "b.tsv"
    second.write_text("study\tdice\n")
    with pytest.raises(PetctError, match=r"b\.tsv: got columns study, dice, expected those of"):
        tabulate_metrics([first, second], tmp_path / "metrics.tsv")
