"""The contests' tables in one, with the versions of all that took part."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from petct.contest import COLUMNS, Contestant, Run, summarise
from petct.manifests import write_json
from petct.speed import read_benchmark
from tabulate_benchmark import tabulate_benchmark

SCRIPT = Path(__file__).parents[2] / "src/tabulate_benchmark.py"


def contest(path: Path, task: str, goal: float) -> Path:
    """Ours takes 2 s, the peer 12 s."""
    ours, theirs = ([Run(s, 0.0, s, 1.0, 1.0, {})] for s in (2.0, 12.0))
    told = {"task": task, "size": "clinical", "unit": "study"}
    rows = [
        told | summarise(Contestant("petct", "", []), ours, ours),
        told | summarise(Contestant("peer", "as it comes", [], goal), theirs, ours),
    ]
    pd.DataFrame(rows, columns=COLUMNS).to_csv(path, sep="\t", index=False)
    return path


def test_rows_keep_the_contests_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contests = [
        contest(tmp_path / "metrics.tsv", "metrics", 5.0),
        contest(tmp_path / "conversion.tsv", "conversion", 8.0),
    ]
    peers, output = tmp_path / "peers.json", tmp_path / "out/benchmark.tsv"
    write_json(peers, {"versions": {"nilearn": "1.2.3"}})
    tabulate_benchmark(contests, peers, {"size": "full", "repeats": 1}, "abc", output)
    table = read_benchmark(output)
    assert table["task"].tolist() == ["metrics", "metrics", "conversion", "conversion"]
    assert table["reached"].tolist() == ["", "yes", "", "no"]
    assert "6.00 times as fast, goal 8" in capsys.readouterr().out
    origin = json.loads(output.with_suffix(".origin.json").read_text())
    assert origin["peers"]["nilearn"] == "1.2.3" and "monai" in origin["peers"]
    command = [sys.executable, str(SCRIPT), "--markdown", str(output)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.count("\n| ") == 2 and "| no: time |" in printed


def test_a_table_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    path = contest(tmp_path / "metrics.tsv", "metrics", 5.0)
    path.write_bytes(path.read_bytes()[:-3])
    write_json(tmp_path / "peers.json", {"versions": {}})
    with pytest.raises(Exception, match=r"metrics\.tsv"):
        tabulate_benchmark([path], tmp_path / "peers.json", {}, "abc", tmp_path / "out.tsv")
    assert not (tmp_path / "out.tsv").exists()
