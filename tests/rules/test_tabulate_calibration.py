"""Joining bins and summing them up, on figures that can be added by hand."""

from __future__ import annotations

import math
import runpy
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from petct.metrics import read_table
from tabulate_calibration import tabulate_calibration

SCRIPT = Path(__file__).parents[2] / "src" / "tabulate_calibration.py"
SETTINGS: dict[str, Any] = {"seed": 1, "bootstrap_samples": 100, "confidence": 0.95}
HEADER = (
    "strategy model cohort fold study patient bin_low bin_high voxels probability_sum lesion_voxels"
).replace(" ", "\t")
Counts = tuple[int, float, int]


def write(path: Path, experiment: str, studies: dict[str, tuple[str, Counts, Counts]]) -> Path:
    """Two bins of voxels, sum of probabilities and lesion voxels of each study and its patient."""
    rows = [HEADER]
    for study, (patient, *bins) in studies.items():
        for low, counts in zip((0, 0.5), bins, strict=True):
            rows.append(
                "\t".join(map(str, [*experiment.split(), study, patient, low, low + 0.5, *counts]))
            )
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture
def bins(tmp_path: Path) -> list[Path]:
    return [
        write(
            tmp_path / "a.tsv",
            "one_step unet all 1",
            {"s2": ("NA", (90, 4.0, 2), (10, 9.0, 6)), "s1": ("007", (100, 1.0, 0), (0, 0.0, 0))},
        ),
        write(tmp_path / "b.tsv", "one_step unet all 0", {"s3": ("NA", (95, 2.0, 5), (5, 4.0, 2))}),
        write(tmp_path / "c.tsv", "coarse unet all 0", {"s1": ("007", (10, 0.0, 0), (0, 0.0, 0))}),
        write(tmp_path / "d.tsv", "coarse unet all 1", {}),
    ]


def test_summary(bins: list[Path], tmp_path: Path) -> None:
    table, summary = tmp_path / "tables" / "calibration.tsv", tmp_path / "tables" / "summary.tsv"
    tabulate_calibration(bins, SETTINGS, table, summary)
    joined = read_table(table)
    assert len(joined) == 8
    assert joined["study"].tolist() == ["s1"] * 4 + ["s2"] * 2 + ["s3"] * 2
    assert joined["patient"].tolist() == ["007"] * 4 + ["NA"] * 4
    coarse, one_step = read_table(summary).to_dict("records")
    assert (one_step["strategy"], one_step["studies"], one_step["patients"]) == ("one_step", 3, 2)
    # Low: probabilities add up to 7 with 7 lesion voxels, right on the whole; high: 13 and 8.
    assert one_step["ece"] == pytest.approx(5 / 300)
    assert one_step["ece_n"] == 300
    assert one_step["ece_suspected"] == pytest.approx(5 / 15)
    assert one_step["excess_suspected"] == pytest.approx(5 / 15)
    assert one_step["ece_suspected_n"] == one_step["excess_suspected_n"] == 15
    assert one_step["lesion_unsuspected"] == pytest.approx(7 / 15)
    assert one_step["lesion_unsuspected_n"] == 15
    # A draw of 007 alone has no suspected voxel, any other has NA's: both studies or neither.
    assert one_step["ece_suspected_low"] == one_step["ece_suspected_high"] == pytest.approx(5 / 15)
    # NA alone: 6 - 7 and 13 - 8 of 200; 007 alone: 1 of 100.
    assert one_step["ece_low"] == pytest.approx(1 / 100)
    assert one_step["ece_high"] == pytest.approx(6 / 200)
    assert coarse["ece"] == 0.0
    for name in ("ece_suspected", "excess_suspected", "lesion_unsuspected"):
        assert coarse[f"{name}_n"] == 0
        assert math.isnan(coarse[name])
        assert math.isnan(coarse[f"{name}_low"])
    assert math.isnan(coarse["ece_low"])


def test_undefined_is_nan_and_the_order_of_tables_does_not_matter(
    bins: list[Path], tmp_path: Path
) -> None:
    written = []
    for paths in (bins, bins[::-1]):
        table, summary = tmp_path / "table.tsv", tmp_path / "summary.tsv"
        tabulate_calibration(paths, SETTINGS, table, summary)
        written.append(table.read_text() + summary.read_text())
    assert written[0] == written[1]
    assert "\tnan\t" in written[0]


def test_command_line(bins: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = [
        *["tabulate_calibration", "--bins", *map(str, bins)],
        *["--settings", '{"seed": 1, "bootstrap_samples": 100, "confidence": 0.9}'],
        *["--table", str(tmp_path / "t.tsv"), "--summary", str(tmp_path / "s.tsv")],
        *["--code", "c"],
    ]
    monkeypatch.setattr(sys, "argv", arguments)
    runpy.run_path(str(SCRIPT), run_name="__main__")
    assert isinstance(read_table(tmp_path / "s.tsv"), pd.DataFrame)
    assert len(read_table(tmp_path / "s.tsv")) == 2
