"""Trainings killed at any moment, and a killed Snakemake, end as if nothing had happened."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kill_trainings import digest_results
from workflow_runs import ENVIRONMENT, ROOT

MODEL = Path("results/test/train_network/one_step/unet_small/all/fold-0/model.json")


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the trainings that were killed came to, and one that was not."""
    script = ROOT / "tests/unit/kill_trainings.py"
    command = [sys.executable, str(script), str(tmp_path_factory.mktemp("killed")), "7"]
    environment = ENVIRONMENT | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests/unit'}"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    report: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return report


def test_twenty_kills_at_random_moments_leave_no_trace(killed: dict[str, Any]) -> None:
    random = killed["random"]
    assert len(random["resumed"]) == 20 + len(random["results"])
    assert all(result == killed["whole"] for result in random["results"])
    # Some came before there was anything to go on from, some after.
    assert 0 in random["resumed"] and len(set(random["resumed"])) > 4


def test_kills_between_all_changes_of_files_leave_no_trace(killed: dict[str, Any]) -> None:
    files = killed["files"]
    assert files["results"] == [killed["whole"]]
    # An epoch changes files five times or so: all those moments, and the writing of the results.
    assert len(files["resumed"]) > 15 and len(set(files["resumed"])) > 8


def test_killed_snakemake_starts_again_and_waits_for_its_orphan(
    finished_study: Path, tmp_path: Path
) -> None:
    project = finished_study / "project"
    shutil.copytree(finished_study / "run", tmp_path, dirs_exist_ok=True)
    model = tmp_path / MODEL
    shutil.rmtree(model.parent)
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(project / "Snakefile")]
    command += ["--directory", str(tmp_path), "--cores", "1"]
    command += ["--configfile", str(project / "config/test.yaml")]

    first = start([*command, "--", str(MODEL)])
    wait_until(lambda: bool(find_holder(model.parent / "lock")), first)
    (orphan,) = find_holder(model.parent / "lock")
    while not (model.parent / "state/state.json").exists():
        # By and by, so that its first epoch does not go by unseen.
        os.kill(orphan, signal.SIGCONT)
        time.sleep(0.05)
        os.kill(orphan, signal.SIGSTOP)
    first.kill()
    first.communicate()
    assert not model.exists()
    assert start([*command, "--unlock"]).wait() == 0
    again = start([*command, "--rerun-incomplete", "--", str(MODEL)])
    log = tmp_path / "results/test/logs/train_network/one_step/unet_small/all/fold-0.log"
    wait_until(lambda: log.exists() and "another process is at work" in log.read_text(), again)
    os.kill(orphan, signal.SIGCONT)
    output = again.communicate()[0]
    assert again.returncode == 0, output
    assert "trained before by the same code, settings and data" in log.read_text()
    assert digest_results(model) == digest_results(finished_study / "run" / MODEL)


def start(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_until(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while not happened():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)


def find_holder(lock: Path) -> set[int]:
    """The process that holds a lock on a file, by the list that Linux keeps."""
    if not lock.exists():
        return set()
    inode = str(lock.stat().st_ino)
    rows = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return {int(row[4]) for row in rows if row[1] == "FLOCK" and row[5].endswith(f":{inode}")}
