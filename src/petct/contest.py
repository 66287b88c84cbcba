"""Several programs at the same work, each a process of its own, measured side by side.

They run in alternation, since a machine's speed drifts, and are compared round by round. The first
is ours. Needs Linux: memory and CPU time are read from what its kernel tells of processes.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import select
import shutil
import signal
import statistics
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from petct.errors import PetctError
from petct.job_state import end_with_parent
from petct.manifests import read_json, write_json

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = [
    *["task", "size", "who", "settings", "runs", "amount", "unit"],
    *["wall_s", "wall_min_s", "wall_max_s", "startup_s", "cpu_s", "peak_gb", "quality"],
    *["ratio", "ratio_min", "ratio_max", "memory_ratio"],
    *["goal", "memory_goal", "quality_goal", "most_s", "most_gb", "reached", "missed"],
]
OUTCOME = "outcome.json"
# The variable that tells a contestant its round, from 0: a seed that is the same for all in it.
ROUND = "PETCT_ROUND"
# The variables that the rules set for jobs that compute on a CPU; peers get them with their best
# settings. Outside of a rule there are none.
FAST_CPU = dict(pair.split("=") for pair in os.environ.get("PETCT_FAST_CPU", "").split())
_LAST_LINES = 15
# Between two looks at the memory of processes that share some: each look costs milliseconds.
_LOOK_EVERY_S = 0.25


@dataclass(frozen=True)
class Contestant:
    """One program in a contest, and what we want to reach against it.

    ``command`` runs in an empty folder of its own, which is deleted afterwards, so paths in it are
    absolute; it ends by report_outcome. ``settings`` says what is special about it: "as it comes",
    "best known: ...".

    ``goal`` and ``memory_goal`` are the least ratios, theirs to ours, of time and of peak memory.
    ``quality_goals`` gives, by the name of a figure of quality, the least and the most that ours
    less theirs may be. ``most_s`` and ``most_gb`` bound the contestant itself, where there is
    nobody to compare with.
    """

    who: str
    settings: str
    command: list[str]
    goal: float | None = None
    memory_goal: float | None = None
    environment: dict[str, str] = field(default_factory=dict)
    quality_goals: dict[str, tuple[float, float]] = field(default_factory=dict)
    most_s: float | None = None
    most_gb: float | None = None


@dataclass(frozen=True)
class Run:
    """What one run of a contestant took.

    ``seconds`` of the work itself, ``startup_s`` of the process beside it, ``cpu_s`` of all its
    processes in user and system mode, ``peak_gb`` of memory of all at once (1e9 bytes).
    """

    seconds: float
    startup_s: float
    cpu_s: float
    peak_gb: float
    amount: float
    quality: dict[str, float]


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """What every contest's script is called with, be it for the contest or as a contestant."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--settings", type=json.loads, required=True, help="JSON object")
    parser.add_argument("--inputs", type=Path, help="folder of prepare_benchmark, or in it")
    parser.add_argument("--peers", type=Path, help="folder of packages")
    parser.add_argument("--output", type=Path, help="table of the contest")
    parser.add_argument("--contestant", help="be this one, in --folder")
    parser.add_argument("--folder", type=Path, default=Path())
    return parser


def report_outcome(folder: Path, seconds: float, amount: float = 1.0, **quality: float) -> None:
    """Say in a contestant's process what it has done; ``folder`` is the one that it runs in.

    ``seconds`` is the work's own wall time, without start-up and imports; ``amount`` how much
    work that was (patches, steps, studies); ``quality`` named figures that show that it was done
    right (dice=..., largest_difference=...); NaN where one does not exist.
    """
    told = {name: None if math.isnan(value) else float(value) for name, value in quality.items()}
    write_json(
        folder / OUTCOME,
        {"seconds": float(seconds), "amount": float(amount), "quality": told}
        | {"peak_gb": measure_own_peak_gb()},
    )


def measure_own_peak_gb() -> float:
    """The most memory that this process, or one that it has waited for, ever had [GB].

    What the kernel tells about a process that has ended is no less than the memory of the one
    that started it, so a contestant looks at itself.
    """
    status = Path("/proc/self/status").read_text()
    own_kb = next(int(line.split()[1]) for line in status.splitlines() if "VmHWM:" in line)
    children_kb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return max(own_kb, children_kb) * 1024 / 1e9


def run_contest(
    task: str, size: str, unit: str, contestants: list[Contestant], repeats: int, folder: Path
) -> pd.DataFrame:
    """One row (COLUMNS) per contestant, of the medians over ``repeats`` rounds.

    Every second round runs in reverse, so that a drift of the machine favours nobody. Times are
    per unit of amount. ``ratio`` is the median over the rounds of theirs to ours, of the same
    round. Logs and ``runs.tsv``, every single run, stay in ``folder``. Raises PetctError that
    names the contestant and its log if one fails.
    """
    # A contestant imports this module too, and need not wait for pandas.
    import pandas as pd

    if folder.exists():
        for old in folder.glob("round-*"):
            shutil.rmtree(old) if old.is_dir() else old.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    runs: dict[int, list[Run]] = {place: [] for place in range(len(contestants))}
    lines = []
    for number in range(repeats):
        for place in list(runs)[:: -1 if number % 2 else 1]:
            contestant = contestants[place]
            contestant = replace(
                contestant, environment=contestant.environment | {ROUND: str(number)}
            )
            run = run_contestant(contestant, folder.absolute() / f"round-{number}-{place}")
            runs[place].append(run)
            lines.append(
                {"round": number, "who": contestant.who, "settings": contestant.settings}
                | {"seconds": run.seconds, "startup_s": run.startup_s, "cpu_s": run.cpu_s}
                | {"peak_gb": run.peak_gb, "amount": run.amount, "quality": show(run.quality)}
            )
            print(
                f"{task} {size}, round {number + 1} of {repeats}: {contestant.who}"
                f" ({contestant.settings or 'ours'}) {run.seconds:.2f} s,"
                f" {run.peak_gb:.2f} GB, {show(run.quality)}",
                flush=True,
            )
    pd.DataFrame(lines).to_csv(folder / "runs.tsv", sep="\t", index=False)
    rows = [
        {"task": task, "size": size, "unit": unit} | summarise(contestant, runs[place], runs[0])
        for place, contestant in enumerate(contestants)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def run_contestant(contestant: Contestant, folder: Path) -> Run:
    """Run one process in the new ``folder``, with its log beside it, and measure it."""
    log = folder.with_suffix(".log")
    folder.mkdir()
    start = time.perf_counter()
    with log.open("w") as file:
        # A session of its own tells its processes from others. Unlike Popen.wait, wait4 gives the
        # CPU time of the process and of those that it has waited for.
        process = subprocess.Popen(
            contestant.command,
            cwd=folder,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | contestant.environment,
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
        shared_gb, ended = 0.0, 0
        while not ended:
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
            if not ended:
                shared_gb = max(shared_gb, measure_together_gb(process.pid))
                _wait(process.pid, _LOOK_EVERY_S)
        with suppress(ProcessLookupError):  # what it has left running would slow the next one down
            os.killpg(process.pid, signal.SIGKILL)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall_s = time.perf_counter() - start
    what = f"{contestant.who} ({contestant.settings or 'ours'})"
    if process.returncode:
        last = "\n".join(log.read_text(errors="replace").splitlines()[-_LAST_LINES:])
        how = f"ended with {process.returncode}"
        raise PetctError(f"{what} {how}; its log is {log} and ends:\n{last}")
    if not (folder / OUTCOME).is_file():
        raise PetctError(f"{what} ended without saying what it has done; its log is {log}")
    outcome = read_json(folder / OUTCOME)
    shutil.rmtree(folder)
    return Run(
        seconds=outcome["seconds"],
        startup_s=max(wall_s - outcome["seconds"], 0.0),
        cpu_s=usage.ru_utime + usage.ru_stime,
        peak_gb=max(shared_gb, outcome["peak_gb"]),
        amount=outcome["amount"],
        quality={
            name: math.nan if value is None else value for name, value in outcome["quality"].items()
        },
    )


def _wait(pid: int, seconds: float) -> None:
    """Until the process has ended, but no longer than ``seconds``; it stays to be waited for."""
    handle = os.pidfd_open(pid)
    try:
        select.select([handle], [], [], seconds)
    finally:
        os.close(handle)


def measure_together_gb(session: int) -> float:
    """The memory of a session's processes together, what they share counted once [GB].

    0 where there is one process alone: its largest memory is told when it ends.
    """
    members = [
        process
        for process in Path("/proc").iterdir()
        if process.name.isdigit() and _session(process) == session
    ]
    return sum(map(_proportional_gb, members)) if len(members) > 1 else 0.0


def _session(process: Path) -> int:
    """The session that a process (/proc/<pid>) belongs to, 0 if it is gone."""
    try:
        told = (process / "stat").read_text()
    except OSError:
        return 0
    # The program's name, in brackets, may hold spaces and brackets.
    return int(told.rpartition(")")[2].split()[3])


def _proportional_gb(process: Path) -> float:
    """A process's memory, of pages that n processes share the nth part [GB]; 0 if it is gone."""
    try:
        lines = (process / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024 / 1e9


def summarise(contestant: Contestant, runs: list[Run], ours: list[Run]) -> dict[str, Any]:
    """The columns that follow from a contestant's runs and from ours of the same rounds."""
    times = [run.seconds / run.amount for run in runs]
    our_times = [run.seconds / run.amount for run in ours]
    row: dict[str, Any] = {
        "who": contestant.who,
        "settings": contestant.settings,
        "runs": len(runs),
        "amount": statistics.median(run.amount for run in runs),
        "wall_s": statistics.median(times),
        "wall_min_s": min(times),
        "wall_max_s": max(times),
        "startup_s": statistics.median(run.startup_s for run in runs),
        "cpu_s": statistics.median(run.cpu_s / run.amount for run in runs),
        "peak_gb": statistics.median(run.peak_gb for run in runs),
        "quality": show(median_quality(runs)),
        "goal": contestant.goal,
        "memory_goal": contestant.memory_goal,
        "quality_goal": show_ranges(contestant.quality_goals),
        "most_s": contestant.most_s,
        "most_gb": contestant.most_gb,
    }
    if runs is not ours:
        ratios = [theirs / own for theirs, own in zip(times, our_times, strict=True)]
        row |= {
            "ratio": statistics.median(ratios),
            "ratio_min": min(ratios),
            "ratio_max": max(ratios),
            "memory_ratio": statistics.median(
                theirs.peak_gb / own.peak_gb for theirs, own in zip(runs, ours, strict=True)
            ),
        }
    missed = list_missed(contestant, row, median_quality(runs), median_quality(ours))
    goals = (contestant.goal, contestant.memory_goal, contestant.most_s, contestant.most_gb)
    has_goals = bool(contestant.quality_goals) or any(goal is not None for goal in goals)
    row["missed"] = ", ".join(missed)
    row["reached"] = ("no" if missed else "yes") if has_goals else ""
    return row


def list_missed(
    contestant: Contestant,
    row: dict[str, Any],
    theirs: dict[str, float],
    ours: dict[str, float],
) -> list[str]:
    """Which of the goals were missed: time, memory, or the name of a figure of quality."""
    missed = []
    if contestant.goal is not None and not row["ratio"] >= contestant.goal:
        missed.append("time")
    if contestant.memory_goal is not None and not row["memory_ratio"] >= contestant.memory_goal:
        missed.append("memory")
    if contestant.most_s is not None and not row["wall_s"] <= contestant.most_s:
        missed.append("time")
    if contestant.most_gb is not None and not row["peak_gb"] <= contestant.most_gb:
        missed.append("memory")
    for name, (least, most) in contestant.quality_goals.items():
        difference = ours.get(name, math.nan) - theirs.get(name, math.nan)
        if not least <= difference <= most:
            missed.append(name)
    return missed


def median_quality(runs: list[Run]) -> dict[str, float]:
    """Each named figure's median over the runs."""
    return {name: statistics.median(r.quality[name] for r in runs) for name in runs[0].quality}


def show(quality: dict[str, float]) -> str:
    """Named figures as text: "dice=0.613 largest_difference=1e-07"."""
    return " ".join(f"{name}={value:.4g}" for name, value in quality.items())


def show_ranges(goals: dict[str, tuple[float, float]]) -> str:
    """Goals of quality as text, of ours less theirs: "dice 0.02..inf"."""
    return " ".join(f"{name} {least:g}..{most:g}" for name, (least, most) in goals.items())
