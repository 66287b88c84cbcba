"""One finished run of config/test.yaml for all tests that start from one, and cluster executors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from petct.job_state import hold_lock
from workflow_runs import ENVIRONMENT, ROOT, copy_project, snakemake


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder: ``project`` and, of its run, ``run`` and ``printed``. To be copied, not changed.

    Tests that run side by side share it: the first makes it, and the others wait.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    folder = folder / "finished_study"
    with hold_lock(folder):
        if not (folder / "printed").exists():
            project = copy_project(folder / "project")
            config = str(project / "config/test.yaml")
            result = snakemake(project, folder / "run", "--configfile", config)
            assert result.returncode == 0, result.stdout + result.stderr
            (folder / "printed").write_text(result.stdout + result.stderr)
    return folder


@pytest.fixture(scope="session")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the executors of requirements-clusters.txt, for PYTHONPATH.

    They stay out of the environment, where each start of Snakemake would import them.
    """
    folder = tmp_path_factory.mktemp("plugins")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--target", str(folder)]
    command += ["--requirement", str(ROOT / "envs/requirements-clusters.txt")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        pytest.skip("the executors for clusters cannot be installed: " + result.stderr[-200:])
    return folder


@pytest.fixture(scope="session")
def cluster_environment(plugins: Path) -> dict[str, str]:
    """The environment in which Snakemake finds the executors."""
    return ENVIRONMENT | {"PYTHONPATH": str(plugins)}
