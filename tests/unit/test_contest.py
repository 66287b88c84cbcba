"""Contests: what a process takes is measured, and ratios are of the same round."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

from petct.contest import COLUMNS, Contestant, Run, report_outcome, run_contest, summarise
from petct.errors import PetctError

SOURCE = Path(__file__).parents[2] / "src"


def write(code: str) -> list[str]:
    """A process that imports what a contestant needs and runs ``code``."""
    start = "import sys, time; from pathlib import Path; from petct.contest import report_outcome;"
    return [sys.executable, "-c", f"{start} {code}"]


def test_a_process_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(SOURCE))
    sleeping = "time.sleep(0.2); report_outcome(Path('.'), 0.2, 4.0, dice=0.5)"
    small = Contestant("petct", "", write(sleeping))
    # 200 MB that are touched, in a child as well, and a second of computing.
    forked = (
        "import os; a = bytearray(200_000_000); child = os.fork();"
        " b = bytearray(200_000_000) if not child else b'';"
        " time.sleep(1.0) if not child else None; os._exit(0) if not child else None;"
        " start = time.process_time();\nwhile time.process_time() - start < 1.0: pass\n"
        "os.wait(); report_outcome(Path('.'), 0.4, 2.0, dice=0.25)"
    )
    large = Contestant(
        "peer", "as it comes", write(forked), 3.0, 2.0, quality_goals={"dice": (0.2, math.inf)}
    )
    rows = run_contest("sleep", "smoke", "nap", [small, large], 1, tmp_path / "contest")
    assert list(rows.columns) == COLUMNS
    us, peer = rows.to_dict("records")
    assert us["wall_s"] == pytest.approx(0.05)
    assert (us["amount"], us["unit"], us["quality"]) == (4.0, "nap", "dice=0.5")
    assert us["reached"] == ""
    # Process and imports take time beside the work.
    assert 0.02 < us["startup_s"] < 20.0
    assert peer["wall_s"] == pytest.approx(0.2)
    assert peer["ratio"] == pytest.approx(4.0)
    # Both of its processes together, whose first 200 MB are one and the same.
    assert peer["peak_gb"] - us["peak_gb"] == pytest.approx(0.4, abs=0.06)
    assert peer["memory_ratio"] > 2.0
    assert peer["cpu_s"] * 2.0 - us["cpu_s"] * 4.0 == pytest.approx(1.0, abs=0.8)
    assert (peer["reached"], peer["missed"]) == ("yes", "")
    assert len((tmp_path / "contest/runs.tsv").read_text().splitlines()) == 3


def test_rounds_alternate_and_every_second_one_runs_in_reverse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(SOURCE))
    told = tmp_path / "told"

    def contestant(who: str) -> Contestant:
        note = f"Path({str(told)!r}).open('a').write({who!r})"
        return Contestant(who, "", write(f"{note}; report_outcome(Path('.'), 1.0)"))

    folder = tmp_path / "contest"
    rows = run_contest("order", "smoke", "run", [contestant(who) for who in "abc"], 2, folder)
    assert told.read_text() == "abccba"
    assert list(rows["who"]) == ["a", "b", "c"]
    # Nothing but logs and the table of runs is left.
    assert {path.suffix for path in folder.iterdir()} == {".log", ".tsv"}


def test_a_contestant_that_fails_is_named_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(SOURCE))
    failing = Contestant("peer", "as it comes", write("sys.exit('no network')"))
    with pytest.raises(
        PetctError, match=r"peer \(as it comes\) ended with 1; its log is .*round-0-0\.log"
    ) as caught:
        run_contest("fail", "smoke", "run", [failing], 1, tmp_path / "contest")
    assert "no network" in str(caught.value)
    silent = Contestant("peer", "as it comes", write("pass"))
    with pytest.raises(PetctError, match="without saying what it has done"):
        run_contest("fail", "smoke", "run", [silent], 1, tmp_path / "contest")


def run(seconds: float, amount: float = 1.0, gb: float = 1.0, **quality: float) -> Run:
    return Run(seconds, 1.0, 2.0, gb, amount, quality)


def test_ratios_are_medians_over_rounds_of_the_same_round() -> None:
    ours = [run(1.0), run(2.0), run(4.0)]
    # Per unit 4, 20, 4: the rounds' ratios are 4, 10 and 1.
    theirs = [run(8.0, 2.0, 3.0), run(20.0, 1.0, 2.0), run(16.0, 4.0, 8.0)]
    row = summarise(Contestant("peer", "", [], 4.0, 3.5), theirs, ours)
    assert (row["wall_s"], row["wall_min_s"], row["wall_max_s"]) == (4.0, 4.0, 20.0)
    assert (row["ratio"], row["ratio_min"], row["ratio_max"]) == (4.0, 1.0, 10.0)
    assert row["memory_ratio"] == 3.0
    assert (row["reached"], row["missed"]) == ("no", "memory")
    assert summarise(Contestant("peer", "", [], 4.1), theirs, ours)["missed"] == "time"


def test_quality_is_compared_with_ours_and_limits_are_our_own() -> None:
    ours, theirs = [run(1.0, dice=0.60, fp_ml=3.0)], [run(9.0, dice=0.59, fp_ml=2.0)]
    goals = {"dice": (0.02, math.inf), "fp_ml": (-math.inf, 0.0)}
    row = summarise(Contestant("peer", "", [], quality_goals=goals), theirs, ours)
    assert row["quality_goal"] == "dice 0.02..inf fp_ml -inf..0"
    assert (row["quality"], row["missed"]) == ("dice=0.59 fp_ml=2", "dice, fp_ml")
    missing = summarise(
        Contestant("peer", "", [], quality_goals={"dice": (-1.0, 1.0)}),
        [run(1.0, dice=math.nan)],
        ours,
    )
    assert missing["missed"] == "dice"
    alone = Contestant("petct", "", [], most_s=0.5, most_gb=2.0)
    assert summarise(alone, ours, ours)["missed"] == "time"
    assert "ratio" not in summarise(alone, ours, ours)


def test_figures_that_do_not_exist_are_told(tmp_path: Path) -> None:
    report_outcome(tmp_path, 1.0, 2.0, dice=math.nan)
    assert '"dice": null' in (tmp_path / "outcome.json").read_text()


def test_all_of_a_round_are_told_the_same_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(SOURCE))
    told = "import os; report_outcome(Path('.'), 1.0, 1.0, round=float(os.environ['PETCT_ROUND']))"
    both = [Contestant("petct", "", write(told)), Contestant("peer", "", write(told))]
    run_contest("naming", "smoke", "nap", both, 2, tmp_path / "contest")
    header, *rows = (tmp_path / "contest/runs.tsv").read_text().splitlines()
    column = header.split("\t").index("quality")
    assert sorted(row.split("\t")[column] for row in rows) == ["round=0"] * 2 + ["round=1"] * 2
