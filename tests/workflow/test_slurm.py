"""The Slurm profile on a real Slurm of one node with two pretend GPUs."""

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest
import yaml

from workflow_runs import ROOT

SITE = Path("/etc/slurm")  # jobs find the configuration there and nowhere else
PROFILE = ROOT / "config/profiles/slurm"
CONFIGURATION = Path(__file__).parent / "slurm"
FILES = ("slurm.conf", "gres.conf", "cgroup.conf")
PACKAGES = {
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "srun": "slurm-client",
    "munged": "munge",
}
MARK = "for test_slurm.py"  # in our slurm.conf, which a killed test leaves behind
TABLES = ("metrics.tsv", "comparison.tsv")
GPU_RULES = ("train_network", "train_nnunet", "predict_network", "predict_nnunet")


@dataclass(frozen=True)
class SlurmJob:
    """What Slurm remembers of a job; ``name`` is its rule and wildcards, or its group."""

    name: str
    state: str
    gpus: int
    memory_mb: int
    time_limit: str
    start: datetime
    end: datetime


@dataclass(frozen=True)
class FinishedRun:
    """A run through Slurm: its working directory and its jobs in Slurm's order."""

    folder: Path
    jobs: list[SlurmJob]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Slurm, installed if that is allowed, running until the tests are over."""
    if os.geteuid() != 0:
        pytest.skip("Slurm's daemons need root")
    if (SITE / "slurm.conf").exists() and MARK not in (SITE / "slurm.conf").read_text():
        pytest.skip(f"{SITE}/slurm.conf is another's: this machine has a Slurm of its own")
    install_slurm()
    folder = tmp_path_factory.mktemp("slurm")
    host = socket.gethostname().split(".")[0]
    for name in ("state", "spool"):
        (folder / name).mkdir()
    for number in (0, 1):  # a GPU must be a device; these are what /dev/null is
        os.mknod(folder / f"gpu{number}", 0o20666, os.makedev(1, 3))
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    munged = [
        "munged",
        "--foreground",
        "--force",
        f"--key-file={key}",
        f"--socket={folder}/munge.socket",
    ]
    munged += [f"--{kind}-file={folder}/munged.{kind}" for kind in ("pid", "log", "seed")]
    commands = [munged, ["slurmctld", "-D", "-c"], ["slurmd", "-D", "-N", host]]
    daemons = []
    try:
        SITE.mkdir(exist_ok=True)
        for name in FILES:
            text = (CONFIGURATION / name).read_text()
            text = text.replace("{folder}", str(folder)).replace("{host}", host)
            (SITE / name).write_text(text)
        for command in commands:
            with (folder / f"{command[0]}.txt").open("w") as said:
                daemons.append(subprocess.Popen(command, cwd=folder, stdout=said, stderr=said))
            if command is munged:
                wait_until(lambda: (folder / "munge.socket").exists(), "munged")
        wait_until(lambda: ask("sinfo", "-h", "-o", "%T").strip() == "idle", "an idle node")
        yield
    finally:
        ask("scancel", "--user", "root")  # what a run that failed left behind
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(30)
        for name in FILES:
            (SITE / name).unlink(missing_ok=True)


def install_slurm() -> None:
    missing = [package for command, package in PACKAGES.items() if not shutil.which(command)]
    if not missing:
        return
    if not shutil.which("apt-get"):
        pytest.skip(f"not installed: {', '.join(missing)}")
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
    for command in (["apt-get", "update", "-qq"], install):
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            pytest.skip(f"cannot be installed: {', '.join(missing)}")


def wait_until(condition: Callable[[], bool], what: str) -> None:
    for _ in range(300):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail(f"no {what} after 30 s")


def ask(*command: str) -> str:
    """What a Slurm command prints; nothing where it fails."""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def list_jobs() -> list[SlurmJob]:
    jobs = []
    for line in ask("scontrol", "--oneliner", "show", "job").splitlines():
        entry = dict(re.findall(r"(\S+?)=(\S*)", line))
        jobs.append(
            SlurmJob(
                name=entry["Comment"],
                state=entry["JobState"],
                gpus=int(entry.get("TresPerJob", ":0").rsplit(":", 1)[1]),
                memory_mb=int(entry["MinMemoryNode"].removesuffix("M")),
                time_limit=entry["TimeLimit"],
                start=datetime.fromisoformat(entry["StartTime"]),
                end=datetime.fromisoformat(entry["EndTime"]),
            )
        )
    return jobs


def cancel_a_training() -> None:
    """Kill the first training that runs, as a node does that runs out of memory."""
    for _ in range(1200):
        for line in ask("squeue", "-h", "-t", "R", "-o", "%i %k").splitlines():
            number, name = line.split(" ", 1)
            if name.startswith("rule_train"):
                ask("scancel", number)
                return
        time.sleep(0.25)


@pytest.fixture(scope="module")
def finished(
    slurm: None,
    finished_study: Path,
    plugins: Path,
    cluster_environment: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> FinishedRun:
    """The shared study, its one-step networks and their scores made again through the profile.

    The first training that starts is killed once.
    """
    poll_often(plugins)
    folder = tmp_path_factory.mktemp("run") / "run"
    shutil.copytree(finished_study / "run", folder)
    results = folder / "results/test"
    for rule in (*GPU_RULES, "score_predictions"):
        shutil.rmtree(results / rule / "one_step")
    for table in TABLES:
        (results / "tables" / table).unlink()
    # The profile's groups, and one for scores, which are short here.
    groups = yaml.safe_load((PROFILE / "config.yaml").read_text())["groups"]
    groups["score_predictions"] = "scores"
    command = [sys.executable, "-m", "snakemake", "--profile", str(PROFILE)]
    # What this Slurm lacks or need not wait for.
    command += ["--slurm-no-account", "--slurm-status-command", "squeue"]
    command += ["--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "5"]
    command += ["--groups", *(f"{rule}={group}" for rule, group in groups.items())]
    command += ["--group-components", "scores=4", "--directory", str(folder)]
    project = finished_study / "project"
    command += ["--snakefile", str(project / "Snakefile")]
    command += ["--configfile", str(project / "config/test.yaml")]
    command += ["--", *(f"results/test/tables/{table}" for table in TABLES)]
    killer = threading.Thread(target=cancel_a_training, daemon=True)
    killer.start()
    result = subprocess.run(
        command, capture_output=True, text=True, env=cluster_environment, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    killer.join()
    return FinishedRun(folder, list_jobs())


def poll_often(plugins: Path) -> None:
    """Have the executor look each second: it waits 10 s longer for each job that still runs."""
    source = plugins / "snakemake_executor_plugin_slurm/__init__.py"
    text = source.read_text()
    waits = "self.next_seconds_between_status_checks + 10,"
    assert text.count(waits) == 1
    source.write_text(text.replace(waits, "1,"))


@pytest.mark.parametrize("table", TABLES)
def test_tables_are_those_of_a_local_run(
    finished: FinishedRun, finished_study: Path, table: str
) -> None:
    path = f"results/test/tables/{table}"
    assert (finished.folder / path).read_text() == (finished_study / "run" / path).read_text()


def test_no_more_gpu_jobs_at_once_than_gpus(finished: FinishedRun) -> None:
    jobs = [job for job in finished.jobs if job.gpus]
    assert {job.name.split("_wildcards")[0] for job in jobs} == {f"rule_{r}" for r in GPU_RULES}
    at_once = [sum(other.start <= job.start < other.end for other in jobs) for job in jobs]
    assert max(at_once) == 2


def test_each_job_says_which_gpu_it_was_given(finished: FinishedRun) -> None:
    devices = set()
    for rule in GPU_RULES:
        logs = sorted((finished.folder / f"results/test/logs/{rule}/one_step").rglob("*.log"))
        assert len(logs) == 2
        for log in logs:
            found = re.search(r"^device: .*CUDA_VISIBLE_DEVICES=([01])\b", log.read_text(), re.M)
            assert found, log.read_text()
            devices.add(found[1])
    assert devices == {"0", "1"}


def test_a_killed_job_comes_back_with_twice_the_memory_and_time(finished: FinishedRun) -> None:
    jobs = [job for job in finished.jobs if job.name.startswith("rule_train")]
    killed = [job for job in jobs if job.state == "CANCELLED"]
    assert len(jobs) == 5 and len(killed) == 1
    again = [job for job in jobs if job.name == killed[0].name and job.state == "COMPLETED"]
    assert [(job.memory_mb, job.time_limit) for job in (*killed, *again)] == [
        (6000, "02:00:00"),
        (12000, "04:00:00"),
    ]


def test_short_jobs_share_a_submission(finished: FinishedRun) -> None:
    names = [job.name for job in finished.jobs if "_wildcards_" not in job.name]
    assert names == [
        "rule_scores_score_predictions",  # two models, two folds
        *["rule_tabulate_metrics", "rule_compare_experiments"],
    ]
