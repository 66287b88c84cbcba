"""Trainings killed at any moment, and a killed Snakemake, end as if nothing had happened."""

from __future__ import annotations

import contextlib
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

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from kill_trainings import digest_results
from workflow_runs import ENVIRONMENT, ROOT

MODEL = Path("results/test/train_network/one_step/unet_small/all/fold-0/model.json")


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the trainings that were killed came to, and one that was not."""
    script = ROOT / "tests/unit/kill_trainings.py"
    root = tmp_path_factory.mktemp("killed")
    command = [sys.executable, str(script), str(root), "7"]
    environment = ENVIRONMENT | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests/unit'}"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    report: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return report | {"root": root}


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


def test_two_processes_train_as_one_does_and_go_on_after_a_kill(killed: dict[str, Any]) -> None:
    results, root = killed["shared"]["results"], killed["root"]
    assert 0 < killed["shared"]["resumed"] < 5
    assert results["killed"] == results["two"]
    one, two = (load_file(root / name / "last.safetensors") for name in ("one", "two"))
    for name, weights in one.items():
        # A bias before a normalisation has no gradient but rounding, which Adam scales up.
        tolerance = 1e-2 if name.endswith("conv.bias") else 1e-6
        np.testing.assert_allclose(two[name], weights, rtol=0, atol=tolerance, err_msg=name)
    first, second = (
        pd.read_csv(root / name / "history.tsv", sep="\t").drop(columns="seconds")
        for name in ("one", "two")
    )
    pd.testing.assert_frame_equal(first, second, rtol=1e-5)
    # 15 steps from the same start: weights that had not moved would be alike as well.
    assert first["validation_loss"].iloc[-1] < 0.98 * first["validation_loss"].iloc[0]


def test_killed_snakemake_starts_again_and_waits_for_its_orphan(
    finished_study: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    project = finished_study / "project"
    shutil.copytree(finished_study / "run", tmp_path, dirs_exist_ok=True)
    model = tmp_path / MODEL
    shutil.rmtree(model.parent)
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(project / "Snakefile")]
    command += ["--directory", str(tmp_path), "--cores", "1"]
    command += ["--configfile", str(project / "config/test.yaml")]

    told = tmp_path / "told.txt"
    first = start([*command, "--", str(MODEL)], told)
    wait_until(lambda: bool(find_holder(model.parent / "lock")), first, told)
    (orphan,) = find_holder(model.parent / "lock")
    request.addfinalizer(lambda: stop(orphan))
    while not (model.parent / "state/state.json").exists():
        # By and by, so that its first epoch does not go by unseen.
        os.kill(orphan, signal.SIGCONT)
        time.sleep(0.05)
        os.kill(orphan, signal.SIGSTOP)
    first.kill()
    first.wait()
    assert not model.exists()
    assert start([*command, "--unlock"], told).wait() == 0
    again = start([*command, "--rerun-incomplete", "--", str(MODEL)], told)
    log = tmp_path / "results/test/logs/train_network/one_step/unet_small/all/fold-0.log"
    wait_until(
        lambda: log.exists() and "another process is at work" in log.read_text(), again, told
    )
    os.kill(orphan, signal.SIGCONT)
    assert again.wait() == 0, told.read_text()
    assert "trained before by the same code, settings and data" in log.read_text()
    assert digest_results(model) == digest_results(finished_study / "run" / MODEL)


def start(command: list[str], told: Path) -> subprocess.Popen[bytes]:
    # Into a file: an orphan would hold a pipe open.
    with told.open("w") as file:
        return subprocess.Popen(command, env=ENVIRONMENT, stdout=file, stderr=subprocess.STDOUT)


def stop(process: int) -> None:
    """Kill it if it is still there: one that is halted would stay for ever."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def wait_until(happened: Callable[[], bool], process: subprocess.Popen[bytes], told: Path) -> None:
    while not happened():
        assert process.poll() is None, told.read_text()
        time.sleep(0.02)


def find_holder(lock: Path) -> set[int]:
    """The process that holds a lock on a file, by the list that Linux keeps."""
    if not lock.exists():
        return set()
    inode = str(lock.stat().st_ino)
    rows = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return {int(row[4]) for row in rows if row[1] == "FLOCK" and row[5].endswith(f":{inode}")}
