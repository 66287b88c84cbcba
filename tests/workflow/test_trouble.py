"""What goes wrong on real disks and in real runs: a readable line, nothing half-written."""

from __future__ import annotations

import json
import os
import re
import runpy
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from array_studies import (
    NATIVE,
    PREPROCESSING,
    fill,
    write_cohort,
    write_converted,
    write_resampled,
)
from petct.manifests import read_json
from volumes import read_only, small_disk
from workflow_runs import copy_project, snakemake

SCRIPTS = Path(__file__).parents[2] / "src"


def run_script(
    name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *arguments: str
) -> str:
    """What a script that fails says on standard error."""
    monkeypatch.setattr(sys, "argv", [str(SCRIPTS / f"{name}.py"), *arguments])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(sys.argv[0], run_name="__main__")
    assert stopped.value.code == 1
    return capfd.readouterr().err


def test_a_full_and_a_read_only_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    converted = write_converted(tmp_path, "a", [(8, 9, 8, 14, 15, 14)])
    with small_disk(tmp_path / "disk", 32) as disk:
        output = disk / "a" / "study.json"
        arguments = ["--study", str(converted), "--settings", json.dumps(PREPROCESSING)]
        arguments += ["--output", str(output)]
        told = run_script("resample_study", monkeypatch, capfd, *arguments)
        assert told.startswith(f"error: the disk is full: {output} could not be written (")
        assert told.count("\n") == 1 and "Make room and run again" in told
        # Arrays are there, cut short; no manifest says so.
        assert list(disk.rglob("image.npy")) and not output.exists()
        with read_only(disk):
            told = run_script("resample_study", monkeypatch, capfd, *arguments)
        assert re.fullmatch(
            rf"error: {disk}\S+ lies on a file system that is read-only; mount it for writing\n",
            told,
        )
        subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
        runpy.run_path(sys.argv[0], run_name="__main__")
        assert read_json(output)["status"] == "resampled"


def test_a_damaged_array(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    resampled = write_resampled(Path("results/test"), "a", [(8, 9, 8, 14, 15, 14)])
    image = resampled / "a/fine/image.npy"
    image.write_bytes(image.read_bytes()[:-1000])
    told = run_script(
        "locate_regions", monkeypatch, capfd,
        "--cohort", str(write_cohort(tmp_path / "test.tsv", {"a": 0})), "--coarse",
        "--resampled", str(resampled), "--settings", '{"grid": "fine"}', "--code", "c",
        "--output", "results/test/regions.json", "--table", "results/test/regions.tsv",
    )  # fmt: skip
    assert told == (
        "error: results/test/resample_study/a/fine/image.npy is cut short or garbled; to have it"
        " made again by resample_study, run snakemake with the same options and --force"
        " results/test/resample_study/a/study.json, then as before\n"
    )


def write_study(folder: Path, suv_scale: float) -> None:
    """A study as AutoPET releases it: a body with a lesion of SUV 8, all times ``suv_scale``."""
    lesion = fill(NATIVE.shape_zyx, (8, 9, 8, 14, 15, 14))
    body = fill(NATIVE.shape_zyx, (5, 6, 4, 21, 26, 24))
    folder.mkdir(parents=True)
    for name, values in (
        ("SUV", (suv_scale * (body + 7.0 * lesion)).astype(np.float32)),
        ("CT", np.where(body > 0, 0, -1000).astype(np.int16)),
        ("SEG", lesion),
    ):
        sitk.WriteImage(NATIVE.to_image(values), folder / f"{name}.nii.gz")


def kill_job(
    script: str, output: str, folder: Path, killed: list[int], over: threading.Event
) -> None:
    """SIGKILL to the process in ``folder`` that runs ``script`` for ``output``, once it runs."""
    while not killed and not over.wait(0.02):
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_text().split("\0")
                ours = (process / "cwd").resolve() == folder.resolve()
            except OSError:  # it has ended
                continue
            if len(words) > 1 and words[1].endswith(f"/{script}.py") and output in words and ours:
                os.kill(int(process.name), signal.SIGKILL)
                killed.append(int(process.name))


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="processes are found in /proc")
def test_the_others_go_on_and_the_next_run_mends(tmp_path: Path) -> None:
    for study, suv_scale in (("a", 1.0), ("b", 1.0), ("c", 0.0)):
        write_study(tmp_path / "data" / study, suv_scale)
    project, run = copy_project(tmp_path / "project"), tmp_path / "run"
    options = ["--keep-going", "--configfile", str(project / "config/test.yaml")]
    options += ["--config", "source=folder", f"folder={tmp_path / 'data'}", "--"]
    results = Path("results/test")
    wanted = [str(results / f"resample_study/{study}/study.json") for study in "abc"]
    wanted.append(str(results / "tables/excluded.tsv"))

    def found() -> list[bool]:
        return [(run / file).exists() for file in wanted]

    killed: list[int] = []
    over = threading.Event()
    job = ("resample_study", wanted[0], run)
    killer = threading.Thread(target=kill_job, args=(*job, killed, over))
    killer.start()
    failed = snakemake(project, run, *options, wanted[3])
    over.set()
    killer.join()
    assert len(killed) == 1 and failed.returncode != 0
    # Everything but what hangs on the killed job.
    assert found() == [False, True, True, False]

    suv, converted = (results / "convert_study/b" / name for name in ("suv.nii.gz", "study.json"))
    (run / suv).write_bytes((run / suv).read_bytes()[:-200])
    (run / wanted[1]).unlink()
    failed = snakemake(project, run, *options, *wanted)
    assert failed.returncode != 0
    # What was killed is made, what hangs on the damaged file is not.
    assert found() == [True, False, True, False]
    assert (run / results / "logs/resample_study/b.log").read_text() == (
        f"error: {suv} is cut short or garbled; to have it made again by convert_study, run"
        f" snakemake with the same options and --force {converted}, then as before\n"
    )

    forced = snakemake(project, run, "--force", *options, str(converted))
    assert forced.returncode == 0, forced.stderr
    mended = snakemake(project, run, *options, *wanted)
    assert mended.returncode == 0, mended.stderr
    assert found() == [True] * 4
    # No study but the one that failed was made again.
    assert set(re.findall(r"wildcards: study=(\w)", mended.stderr + mended.stdout)) == {"b"}
    excluded = pd.read_csv(run / wanted[3], sep="\t")
    assert excluded[["study", "reason"]].to_numpy().tolist() == [
        ["c", "the PET is empty: nothing above SUV 0.15"]
    ]
