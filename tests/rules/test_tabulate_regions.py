"""One table of what all boxes cost and miss; the experiment comes from each table's path."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from tabulate_regions import tabulate_regions

SCRIPT = Path(__file__).parents[2] / "src" / "tabulate_regions.py"
HEADER = (
    "study\torigin\tboxes\tboxes_ml\tbody_ml\tlesions_reference\tlesions_missed"
    "\treference_outside_ml\n"
)
COLUMNS = (
    "strategy\tmodel\tcohort\tfold\tstudy\torigin\tboxes\tboxes_ml\tbody_ml\tlesions_reference"
    "\tlesions_missed\treference_outside_ml\n"
)


def write(folder: Path, experiment: str, *rows: str) -> Path:
    path = folder / experiment / "regions.tsv"
    path.parent.mkdir(parents=True)
    path.write_text(HEADER + "".join(row.replace(" ", "\t") + "\n" for row in rows))
    return path


def test_rows_are_sorted_and_say_their_experiment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = [
        write(tmp_path, "two_step_boxes/unet/all/fold-1", "007 peaks 2 50.5 1000.0 1 1 3.25"),
        write(
            tmp_path,
            "two_step_boxes/unet/all/fold-0",
            "NA clusters 1 100.0 1000.0 2 0 0.0",
            "zz nothing 0 0.0 2000.0 0 0 0.0",
        ),
        write(tmp_path, "oracle_boxes/unet/all/fold-10", "a reference 3 4.0 8.0 3 0 0.0"),
    ]
    output = tmp_path / "tables" / "regions.tsv"
    tabulate_regions(tables, output)
    assert output.read_text() == COLUMNS + (
        "oracle_boxes\tunet\tall\t10\ta\treference\t3\t4.0\t8.0\t3\t0\t0.0\n"
        "two_step_boxes\tunet\tall\t1\t007\tpeaks\t2\t50.5\t1000.0\t1\t1\t3.25\n"
        "two_step_boxes\tunet\tall\t0\tNA\tclusters\t1\t100.0\t1000.0\t2\t0\t0.0\n"
        "two_step_boxes\tunet\tall\t0\tzz\tnothing\t0\t0.0\t2000.0\t0\t0\t0.0\n"
    )
    # 150.5 mL of 4000 mL.
    assert capsys.readouterr().out.splitlines() == [
        "oracle_boxes unet all: 0 of 3 lesions outside the boxes, which fill 50 % of the"
        " body's box",
        "two_step_boxes unet all: 1 of 3 lesions outside the boxes, which fill 4 % of the"
        " body's box",
    ]


def test_an_empty_fold_adds_nothing(tmp_path: Path) -> None:
    row = "a clusters 1 1.0 2.0 0 0 0.0"
    tables = [
        write(tmp_path, "boxes/unet/all/fold-0"),
        write(tmp_path, "boxes/unet/all/fold-1", row),
    ]
    tabulate_regions(tables, tmp_path / "regions.tsv")
    expected = COLUMNS + "boxes\tunet\tall\t1\t" + row.replace(" ", "\t") + "\n"
    assert (tmp_path / "regions.tsv").read_text() == expected


def test_without_boxes_there_is_a_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "regions.tsv"
    # No experiment looks into boxes: the rule leaves the option without a value.
    arguments = ["tabulate_regions", "--regions", "--output", str(output), "--code", "c"]
    monkeypatch.setattr(sys, "argv", arguments)
    runpy.run_path(str(SCRIPT), run_name="__main__")
    assert output.read_text() == COLUMNS
    assert capsys.readouterr().out == ""
