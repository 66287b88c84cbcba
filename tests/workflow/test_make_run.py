"""`make run` beside another run, and after one whose Snakemake was killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from workflow_runs import ENVIRONMENT, ROOT, copy_project

# The environment's programs: Snakemake notes its process, and scripts wait to be let go, then fail.
PROGRAMS = {
    "snakemake": 'echo $$ > snakemake.pid; exec {python} -m snakemake "$@"',
    "python": """[ "$1" = -c ] && exec {python} "$@"
echo >> started; while [ ! -e go ]; do sleep 0.1; done; exit 1""",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    project = copy_project(tmp_path / "project")
    shutil.copyfile(ROOT / "Makefile", project / "Makefile")
    (project / ".venv/bin").mkdir(parents=True)
    for name, text in PROGRAMS.items():
        program = project / ".venv/bin" / name
        program.write_text("#!/bin/sh\n" + text.format(python=sys.executable) + "\n")
        program.chmod(0o755)
    (project / ".venv/run.stamp").touch()
    return project


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(project: Path) -> Iterator[Start]:
    """Starts a command in the project; what a failed test leaves running ends with it."""
    started: list[subprocess.Popen[str]] = []

    def begin(*command: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command,
            cwd=project,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=ENVIRONMENT | {"PATH": f"{project}/.venv/bin:{ENVIRONMENT['PATH']}"},
            start_new_session=True,
        )
        started.append(process)
        return process

    yield begin
    (project / "go").touch()
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def wait_until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not done():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_killed_snakemake_does_not_stop_the_next_run(project: Path, start: Start) -> None:
    started = project / "started"
    first = start("make", "run")
    wait_until(started.exists)

    beside = start("make", "run")
    assert beside.communicate()[0].startswith(f"another run is going on in {project}")
    assert beside.returncode != 0

    os.kill(int((project / "snakemake.pid").read_text()), signal.SIGKILL)
    assert first.wait() != 0  # its output stays open: the job outlives its Snakemake
    assert list((project / ".snakemake/locks").iterdir())

    started.unlink()
    (project / "go").touch()
    printed = start("make", "run").communicate()[0]
    assert "Unlocked working directory." in printed
    assert "cannot be locked" not in printed
    assert started.exists()


def test_a_snakemake_that_make_did_not_start_counts_as_a_run(project: Path, start: Start) -> None:
    plain = start("snakemake", "--cores", "1")
    wait_until((project / "started").exists)
    locks = sorted((project / ".snakemake/locks").iterdir())
    beside = start("make", "run")
    assert beside.communicate()[0].startswith("another run is going on")
    assert sorted((project / ".snakemake/locks").iterdir()) == locks
    (project / "go").touch()
    plain.communicate()
    assert plain.returncode != 0
