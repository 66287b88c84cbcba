"""Runs of the real workflow on a copy of the project, and what they plan or do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# `python` in a rule must be the one that runs the tests. A make that runs the tests tells the makes
# below it that they are its own.
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
} | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def copy_project(copy: Path) -> Path:
    """What the workflow needs of the project, in a folder whose files a test may change."""
    for name in ("rules", "src", "config", "envs"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, copy / name, ignore=ignored, copy_function=shutil.copyfile)
    shutil.copyfile(ROOT / "Snakefile", copy / "Snakefile")
    return copy


def snakemake(project: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it in ``folder`` on two cores."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(project / "Snakefile")]
    command += ["--directory", str(folder), "--cores", "2", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)


def list_jobs(printed: str) -> set[str]:
    """The jobs that a run did or a dry run plans: the rule, a space, its wildcards by slashes."""
    jobs = set()
    for block in re.split(r"(?m)^(?=(?:local)?(?:rule|checkpoint) \w+:$)", printed):
        rule = re.match(r"(?:local)?(?:rule|checkpoint) (\w+):", block)
        wildcards = re.search(r"^ +wildcards: (.+)$", block.split("\n\n")[0], re.MULTILINE)
        if rule:
            values = re.findall(r"\w+=([^,\s]+)", wildcards[1]) if wildcards else []
            jobs.add(f"{rule[1]} {'/'.join(values)}".strip())
    assert jobs or "Nothing to be done" in printed, printed
    return jobs - {"all"}
