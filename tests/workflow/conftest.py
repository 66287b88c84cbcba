"""One finished run of config/test.yaml for all tests that start from one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from petct.job_state import hold_lock
from workflow_runs import copy_project, snakemake


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
