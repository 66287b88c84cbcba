"""How a script ends: one line for what a person can mend, a traceback for what is our mistake."""

import errno
import multiprocessing
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib.figure
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from petct.command_line import exit_on_error, explain
from petct.errors import PetctError, StudyError
from petct.manifests import read_json, write_json
from volumes import become_nobody, read_only, small_disk


@pytest.mark.parametrize("error", [PetctError("no studies in x"), StudyError("no studies in x")])
def test_an_error_is_one_line_and_status_1(
    error: PetctError, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped, exit_on_error():
        raise error
    assert stopped.value.code == 1
    # No traceback: neither the cause nor the context is shown.
    assert stopped.value.__suppress_context__ and stopped.value.__cause__ is None
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "error: no studies in x\n")


def test_other_errors_keep_their_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), exit_on_error():
        _ = 1 / 0
    assert capsys.readouterr().err == ""


def test_nothing_wrong_nothing_said(capsys: pytest.CaptureFixture[str]) -> None:
    with exit_on_error():
        pass
    assert capsys.readouterr() == ("", "")


NOISE = np.random.default_rng(0).random((200, 200))


def save_picture(path: Path) -> None:
    figure = matplotlib.figure.Figure()
    figure.subplots().imshow(NOISE)
    figure.savefig(path, dpi=200, format="png")


WRITERS: list[Callable[[Path], object]] = [
    lambda path: np.save(path, NOISE),
    lambda path: pd.DataFrame(NOISE).to_csv(path, sep="\t"),
    lambda path: write_json(path, NOISE.tolist()),
    lambda path: save_file({"w": torch.from_numpy(NOISE)}, path),
    lambda path: torch.save({"w": torch.from_numpy(NOISE)}, path),
    save_picture,
]


def test_a_full_disk_is_told_whoever_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk(tmp_path / "disk", 64) as disk:
        path = disk / "fold-0" / "a.npy"
        path.parent.mkdir()
        monkeypatch.setattr(sys, "argv", ["x", "--output", str(path), "--threads", "1"])
        for write in WRITERS:
            with pytest.raises(Exception) as caught:
                write(path)
            told = explain(caught.value)
            assert told and told.startswith(
                f"the disk is full: {path} could not be written ({path.parent} has 0.0"
            )
            assert "of 0.000 GB free; " in told and told.endswith(
                "Make room and run again: what is finished stays, this job is repeated."
            )
            for file in path.parent.iterdir():
                file.unlink()


def test_a_read_only_disk_is_told(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 64) as disk, read_only(disk):
        # PyTorch and safetensors name no file: it is the script's output.
        for write in WRITERS[:3]:
            with pytest.raises(OSError) as caught:
                write(disk / "a.json")
            assert re.fullmatch(
                rf"{disk}/a\.json(\.tmp|\.npy)? lies on a file system that is read-only; mount it"
                " for writing",
                explain(caught.value) or "",
            )


def write_as_nobody(path: Path, told: Path) -> None:
    with told.open("w") as sys.stderr, exit_on_error():
        become_nobody()
        write_json(path, 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_a_folder_of_somebody_else_is_told(tmp_path: Path) -> None:
    folder = Path("/tmp") / f"petct-test-{os.getpid()}"
    folder.mkdir(mode=0o755)
    told = tmp_path / "told"
    try:
        process = multiprocessing.get_context("fork").Process(
            target=write_as_nobody, args=(folder / "a.json", told)
        )
        process.start()
        process.join()
    finally:
        folder.rmdir()
    assert process.exitcode == 1
    assert told.read_text() == (
        f"error: no permission for {folder}/a.json.tmp: {folder} belongs to user 0, group 0, with"
        " mode 755; this process runs as user 65534, group 65534\n"
    )


def test_quota_size_and_broken_disks(tmp_path: Path) -> None:
    path = str(tmp_path / "a")
    for code, words in (
        (errno.EDQUOT, "the quota of disk space is used up: "),
        (errno.EFBIG, "a file grew beyond the largest size that is allowed (ulimit -f): "),
        (errno.EIO, f"the file system of {path} fails: Input/output error"),
        (errno.ESTALE, f"the file system of {path} fails: Stale file handle"),
    ):
        assert (explain(OSError(code, os.strerror(code), path)) or "").startswith(words)


@pytest.mark.parametrize(
    ("script", "advice"),
    [
        ("train_network", "lower training.batch_size or the patch_zyx of the strategy or model"),
        ("predict_network", "lower inference.windows_per_batch, or see what else runs"),
        ("train_nnunet", "lower batch_size or gpu_memory_gb in the model's arguments"),
        ("predict_nnunet", "lower gpu_memory_gb in the model's arguments"),
        ("other", "take a GPU with more memory"),
    ],
)
def test_too_little_memory_on_the_gpu(
    script: str, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [f"/src/{script}.py"])
    error = torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.5 GiB of"
        " which 1.2 GiB is free. Including non-PyTorch memory, this process has 9 GiB in use."
    )
    assert (explain(error) or "").startswith(
        "the GPU's memory is too small (Tried to allocate 2.00 GiB. GPU 0 has a total capacity of"
        f" 23.5 GiB of which 1.2 GiB is free): {advice}"
    )
    told = explain(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `x`"))
    assert (told or "").startswith(f"the GPU's memory is too small: {advice}")


def test_too_little_memory() -> None:
    with pytest.raises(MemoryError) as of_numpy:
        np.zeros(2**60, np.uint8)
    with pytest.raises(RuntimeError) as of_torch:
        torch.zeros(2**60, dtype=torch.uint8)
    for error in (of_numpy.value, of_torch.value, MemoryError()):
        assert re.match(r"out of memory; this job had \d+\.\d GB and asked", explain(error) or "")


def test_missing_results_are_told_and_other_files_are_our_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for path, told in (
        (
            Path("results/test/score_predictions/a.json"),
            "results/test/score_predictions/a.json is missing; to have it made again by"
            " score_predictions, run snakemake with the same options and"
            " --force results/test/score_predictions/a.json, then as before",
        ),
        (Path("nothing.json"), None),
    ):
        with pytest.raises(FileNotFoundError) as caught:
            read_json(path)
        assert explain(caught.value) == told
