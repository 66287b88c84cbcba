"""Who gets which GPU: real processes and real locks over GPUs that do not exist."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.distributed import TCPStore

from petct.devices import (
    Gpu,
    claim_device,
    hold_one_of,
    name_gpu,
    open_lock_folder,
    read_free_memory,
    take_turns,
)
from petct.errors import PetctError

FORK = get_context("fork")
GPUS = [Gpu(index, f"GPU-{index}", free_bytes=10 * index) for index in range(4)]


def hold(gpus: list[Gpu], folder: Path, told: Queue[Any], output: Path) -> None:
    """A job: takes a GPU, tells which, holds it until it is killed."""
    with output.open("w") as file, redirect_stdout(file), hold_one_of(gpus, folder) as gpu:
        told.put((os.getpid(), gpu.index))
        time.sleep(60)


@pytest.fixture
def start() -> Iterator[Callable[..., BaseProcess]]:
    started: list[BaseProcess] = []

    def start_one(target: Callable[..., None], *arguments: Any) -> BaseProcess:
        process = FORK.Process(target=target, args=arguments)
        started.append(process)
        process.start()
        return process

    yield start_one
    for process in started:
        process.kill()
        process.join()


def test_jobs_take_different_gpus_and_a_killed_one_frees_its_own(
    tmp_path: Path, start: Callable[..., BaseProcess]
) -> None:
    told: Queue[Any] = FORK.Queue()
    taken: dict[int, int] = {}
    for number in range(4):
        start(hold, GPUS, tmp_path, told, tmp_path / str(number))
        taken.update([told.get(timeout=10)])
    # The most free memory first; nobody waited.
    assert list(taken.values()) == [3, 2, 1, 0]
    assert [(tmp_path / str(number)).read_text() for number in range(4)] == [""] * 4
    fifth = start(hold, GPUS, tmp_path, told, tmp_path / "4")
    while not (tmp_path / "4").exists() or not (tmp_path / "4").read_text():
        time.sleep(0.02)
    assert (tmp_path / "4").read_text() == "all 4 GPUs are taken by other jobs; waiting for one\n"
    assert told.empty()
    victim = next(pid for pid, index in taken.items() if index == 2)
    os.kill(victim, signal.SIGKILL)
    assert told.get(timeout=10) == (fifth.pid, 2)


def test_a_job_takes_only_what_it_may_see(tmp_path: Path) -> None:
    with hold_one_of(GPUS[1:3], tmp_path) as first, hold_one_of(GPUS[1:3], tmp_path) as second:
        assert (first.index, second.index) == (2, 1)
    with hold_one_of(GPUS[1:3], tmp_path) as again:
        assert again.index == 2
    # What is not known to be free comes last, in PyTorch's order.
    unknown = [Gpu(0, "0", 0), Gpu(1, "1", 0)]
    with hold_one_of(unknown, tmp_path) as first, hold_one_of(unknown, tmp_path) as second:
        assert (first.index, second.index) == (0, 1)


def test_a_worker_that_outlives_its_job_holds_nothing(
    tmp_path: Path, start: Callable[..., BaseProcess]
) -> None:
    with hold_one_of(GPUS[:1], tmp_path):
        worker = start(time.sleep, 60)
    assert worker.is_alive()
    with hold_one_of(GPUS[:1], tmp_path) as again:
        assert again.index == 0


@pytest.mark.parametrize(
    ("index", "uuid", "visible", "name"),
    [
        (0, "aa-bb", None, "GPU-aa-bb"),
        (1, "aa-bb", "3,2", "GPU-aa-bb"),
        (0, "GPU-aa", "GPU-aa", "GPU-aa"),
        (1, None, None, "1"),
        (1, None, "3, 2", "2"),
        (0, None, "", "0"),
        # The slices of a divided GPU share its UUID.
        (0, "aa-bb", "MIG-cc", "MIG-cc"),
        (0, "aa-bb", "MIG-GPU-aa-bb/1/0", "MIG-GPU-aa-bb_1_0"),
    ],
)
def test_names(index: int, uuid: str | None, visible: str | None, name: str) -> None:
    assert name_gpu(index, uuid, visible) == name


def test_free_memory() -> None:
    table = "GPU-aa, 81000\nGPU-bb, 12\nGPU-cc, [N/A]\nno devices were found\n"
    assert read_free_memory(table) == {"GPU-aa": 81000 * 2**20, "GPU-bb": 12 * 2**20}
    assert read_free_memory("") == {}


def gather(folder: Path, port: int, rank: int, told: Queue[Any]) -> None:
    """A process of a job of two: takes its turn and a GPU, holds it a moment."""
    store = TCPStore("localhost", port, is_master=False)
    with take_turns(folder, store, rank, 2):
        claim = hold_one_of(GPUS[:2], folder)
        gpu = claim.__enter__()
    told.put((port, gpu.index))
    store.set(f"both-{rank}", "")
    store.wait(["both-0", "both-1"])
    time.sleep(0.2)


def test_two_jobs_of_two_gpus_do_not_block_each_other(
    tmp_path: Path, start: Callable[..., BaseProcess]
) -> None:
    told: Queue[Any] = FORK.Queue()
    stores = [TCPStore("localhost", 0, is_master=True, wait_for_workers=False) for _ in range(2)]
    processes = [
        start(gather, tmp_path, store.port, rank, told) for rank in (0, 1) for store in stores
    ]
    claims = [told.get(timeout=20) for _ in processes]
    # Each job had both, one job after the other.
    assert [port for port, _ in claims[:2]] == [claims[0][0]] * 2
    assert sorted(index for _, index in claims[:2]) == [0, 1]
    assert sorted(index for _, index in claims[2:]) == [0, 1]
    for process in processes:
        process.join(timeout=10)
        assert process.exitcode == 0


def test_the_lock_folder_is_ours(tmp_path: Path) -> None:
    folder = open_lock_folder(tmp_path)
    assert folder == open_lock_folder(tmp_path) == tmp_path / f"petct-{os.getuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.rmdir()
    (tmp_path / "theirs").mkdir()
    folder.symlink_to(tmp_path / "theirs")
    with pytest.raises(PetctError, match="belongs to somebody else"):
        open_lock_folder(tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="PyTorch sees a GPU")
@pytest.mark.parametrize(
    ("visible", "reason"),
    [
        (None, "PyTorch sees no GPU"),
        ("1", "CUDA_VISIBLE_DEVICES=1, but PyTorch sees no GPU"),
        ("", "CUDA_VISIBLE_DEVICES=, but PyTorch sees no GPU"),
        ("-1", "CUDA_VISIBLE_DEVICES=-1, but PyTorch sees no GPU"),
        ("GPU-aa", "CUDA_VISIBLE_DEVICES=GPU-aa, but PyTorch sees no GPU"),
    ],
)
def test_without_a_gpu(
    visible: str | None,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with claim_device() as device, claim_device() as another:
        assert device == another == torch.device("cpu")
    assert capsys.readouterr().out == f"device: cpu ({reason})\n" * 2


@pytest.fixture
def pretended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Two GPUs as PyTorch and the driver would tell of them; the list gets what is chosen."""
    chosen: list[int] = []
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho GPU-aa, 1000\necho GPU-bb, 24000\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("petct.devices._LOCKS", tmp_path)
    for name, answer in (
        ("is_available", lambda: True),
        ("device_count", lambda: 2),
        ("get_device_properties", lambda index: SimpleNamespace(uuid=["aa", "bb"][index])),
        ("get_device_name", lambda index: "H"),
        ("set_device", chosen.append),
    ):
        monkeypatch.setattr(torch.cuda, name, answer)
    return chosen


def test_the_device_is_set_and_told(
    pretended: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    with claim_device() as first, claim_device() as second:
        assert (first, second) == (torch.device("cuda", 1), torch.device("cuda", 0))
    assert pretended == [1, 0]
    told = capsys.readouterr().out
    assert told == "device: cuda:1 (H, GPU-bb)\ndevice: cuda:0 (H, GPU-aa)\n"


def test_more_processes_than_gpus(pretended: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    with (
        pytest.raises(PetctError, match="3 GPUs are wanted for one training, PyTorch sees 2"),
        claim_device(),
    ):
        pass
