"""The full AutoPET matrix: planned within a minute and 1 GB, whatever is there already.

One plan is always tested. With PETCT_SCALE="100 400 1611" in the environment (and -s for pytest) it
also runs the matrix over so many studies with pretended scripts, for minutes, and prints what plans
cost before, after, with one study more and with one model more.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from benchmark_planning import describe_matrix, pretend_index
from workflow_runs import ENVIRONMENT, copy_project

STUDIES, FOLDS = 1611, 5  # FDG and PSMA
STRATEGIES, OWN_MODELS, NNUNETS, COHORTS = 4, 6, 2, 2
MOST_SECONDS, MOST_GB = 60.0, 1.0

# In place of Python: of each script, what its rule declares, a few bytes each.
PRETENDED = """#!/bin/sh
case "$1" in "$PETCT_SRC"/*) ;; *) exec {python} "$@";; esac
script=${{1##*/}}
while [ $# -gt 0 ]; do
  case "$1" in
    --output|--table|--summary|--excluded)
      echo '{{}}' > "$2"
      case "$2" in *.tsv) echo '{{}}' > "${{2%.tsv}}.origin.json";; esac
      [ "$1" = --output ] && here=${{2%/*}};;
    --output-folder) here=$2;;
  esac
  shift
done
cd "$here"
case "$script" in
  index_studies.py)
    mkdir -p studies; echo '{{}}' > source.json; echo > excluded.tsv
    for n in $(seq "$STUDIES"); do echo '{{}}' > "studies/study-$n.json"; done
    (echo 'study\tpatient'; seq -f 'study-%g\tpatient' "$STUDIES") > studies.tsv;;
  select_cohort.py)
    mkdir -p test; echo > folds.tsv
    for cohort in all positive; do
      echo > $cohort.tsv
      for fold in 0 1 2 3 4; do
        mkdir -p $cohort/fold-$fold; echo > $cohort/fold-$fold/train.tsv; echo > test/fold-$fold.tsv
      done
    done;;
  train_*) echo > history.tsv;;
  plan_nnunet.py) echo '{{}}' > dataset.json; echo '{{}}' > fingerprint.json;;
esac
"""


MEASURE = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stderr=subprocess.STDOUT)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss)
sys.exit(code)
"""


@dataclass(frozen=True)
class Plan:
    """What a dry run printed, and what it took: CPU time [s] and peak resident memory [GB]."""

    printed: str
    seconds: float
    memory_gb: float

    @property
    def jobs(self) -> dict[str, int]:
        """How many jobs of each rule."""
        table = self.printed.split("Reasons:")[0]
        return {rule: int(n) for rule, n in re.findall(r"(?m)^(\w+) +(\d+)$", table)}


@dataclass(frozen=True)
class Matrix:
    """The study's full matrix; ``folder`` is where the workflow runs."""

    project: Path
    folder: Path

    def command(self, more_models: bool = False) -> list[str]:
        command = [sys.executable, "-m", "snakemake", "--snakefile", f"{self.project}/Snakefile"]
        overlays = ["full.yaml", *(["more.yaml"] if more_models else [])]
        config = [f"{self.project}/config/autopet.yaml", *(f"{self.folder}/{o}" for o in overlays)]
        return [*command, "--directory", str(self.folder), "--configfile", *config]

    def plan(self, more_models: bool = False) -> Plan:
        # Of a process that starts another, Linux counts its own memory as that one's peak: the
        # command is started, and measured, by one that has next to none.
        command = [*self.command(more_models), "--dry-run", "--quiet", "host"]
        result = subprocess.run(
            [sys.executable, "-S", "-c", MEASURE, *command],
            capture_output=True, text=True, env=ENVIRONMENT, check=False,
        )  # fmt: skip
        assert result.returncode == 0, result.stdout + result.stderr
        cpu_s, peak_kib = result.stdout.splitlines()[-1].split()
        return Plan(result.stdout, float(cpu_s), int(peak_kib) * 1024 / 1e9)

    def pretend(self, studies: int, *arguments: str) -> None:
        """Run all jobs, or those that ``arguments`` say, with pretended scripts."""
        stub = self.folder / "bin/python"
        stub.parent.mkdir(exist_ok=True)
        stub.write_text(PRETENDED.format(python=sys.executable))
        stub.chmod(0o755)
        path = f"{stub.parent}:{ENVIRONMENT['PATH']}"
        profile = str(self.project / "config/profiles/local")
        result = subprocess.run(
            [*self.command(), "--profile", profile, "--cores", "16", "--quiet", *arguments],
            capture_output=True,
            text=True,
            env=ENVIRONMENT | {"PATH": path, "STUDIES": str(studies)},
            check=False,
        )
        assert result.returncode == 0, result.stderr[-3000:]


@pytest.fixture
def matrix(tmp_path: Path) -> Matrix:
    (tmp_path / "index.parquet").touch()
    full = describe_matrix(tmp_path)
    full["models"]["ninth"] = full["models"]["segresnet"]
    (tmp_path / "full.yaml").write_text(yaml.safe_dump(full))
    more = {"experiments": {"models": [*full["experiments"]["models"], "ninth"]}}
    (tmp_path / "more.yaml").write_text(yaml.safe_dump(more))
    return Matrix(copy_project(tmp_path / "project"), tmp_path)


def test_the_full_matrix_is_planned_within_a_minute_and_a_gigabyte(matrix: Matrix) -> None:
    pretend_index(STUDIES, matrix.folder)
    plan = matrix.plan()
    assert plan.seconds < MOST_SECONDS
    assert plan.memory_gb < MOST_GB
    per_network = STRATEGIES * COHORTS * FOLDS
    trainings = per_network * (OWN_MODELS + NNUNETS)
    expected = {rule: STUDIES for rule in ("download_study", "convert_study", "resample_study")}
    expected |= {"train_network": per_network * OWN_MODELS, "train_nnunet": per_network * NNUNETS}
    expected |= {"predict_network": per_network * OWN_MODELS}
    expected |= {"score_predictions": trainings + 2 * FOLDS, "measure_calibration": trainings}
    expected |= {"locate_regions": trainings // STRATEGIES, "plot_studies": trainings // FOLDS}
    assert {rule: plan.jobs[rule] for rule in expected} == expected


@pytest.mark.skipif("PETCT_SCALE" not in os.environ, reason="PETCT_SCALE names no numbers")
@pytest.mark.parametrize("studies", map(int, os.environ.get("PETCT_SCALE", "").split()))
def test_results_that_are_there_are_found_within_a_minute(matrix: Matrix, studies: int) -> None:
    matrix.pretend(studies, "--until", "index_studies")
    plans = {"first plan": matrix.plan()}
    matrix.pretend(studies)
    plans["all is there"] = matrix.plan()
    plans["one model more"] = matrix.plan(more_models=True)
    matrix.pretend(studies + 1, "--forcerun", "index_studies", "--until", "index_studies")
    plans["one study more"] = matrix.plan()
    for name, plan in plans.items():
        jobs = plan.jobs.get("total", 0)
        print(f"{studies} | {name} | {jobs} jobs | {plan.seconds:.1f} s | {plan.memory_gb:.2f} GB")
        assert plan.seconds < MOST_SECONDS, name
        assert plan.memory_gb < MOST_GB, name
    assert "Nothing to be done" in plans["all is there"].printed
    assert plans["one model more"].jobs["train_network"] == STRATEGIES * COHORTS * FOLDS
    assert "download_study" not in plans["one model more"].jobs
    assert plans["one study more"].jobs["download_study"] == 1
