"""Trainings that are killed again and again: a script that forks them and prints what came.

A fork of a process that has imported PyTorch, and not yet computed with it, starts in no time.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch._dynamo  # noqa: F401 - the first optimiser imports it, each fork would

from array_studies import CONFIG, MODEL_SETTINGS, Box, write_cohort, write_resampled
from train_network import train_network

LESIONS: dict[str, list[Box]] = {
    "a": [(8, 9, 8, 12, 14, 13)],
    "b": [(14, 18, 15, 18, 22, 20), (7, 8, 7, 10, 11, 10)],
    "c": [(11, 15, 9, 16, 20, 14)],
}
# Dropout draws in each step, batch norm keeps buffers, the schedule restarts in between.
SETTINGS: dict[str, Any] = MODEL_SETTINGS | {
    "arguments": MODEL_SETTINGS["arguments"] | {"dropout": 0.2, "norm": "batch"},
    "training": MODEL_SETTINGS["training"]
    | {
        "epochs": 30,
        "steps_per_epoch": 3,
        "restart_epochs": 7,
        "warmup_steps": 5,
        "augmentation": CONFIG["training"]["augmentation"],
    },
}
# What two processes compute as one does, but for rounding.
SHARED: dict[str, Any] = MODEL_SETTINGS | {
    "training": SETTINGS["training"] | {"epochs": 5, "batch_size": 4, "learning_rate": 0.001}
}


def start_training(
    root: Path,
    output: Path,
    prepare: Callable[[], object] = int,
    settings: dict[str, Any] = SETTINGS,
    log: str = "log",
) -> int:
    """Fork a training, which writes its log beside ``output``'s folder; its process id."""
    child = os.fork()
    if child:
        return child
    try:
        told = os.open(f"{output.parent}.{log}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(told, 1)
        os.dup2(told, 2)
        prepare()
        train_network(
            root / "train.tsv", [], [], root / "resample_study", 0, settings, 1, "code", output
        )
        os._exit(0)
    except BaseException:
        os.write(2, traceback.format_exc().encode())
        os._exit(1)


def has_finished(child: int) -> bool:
    """Wait for the child's end: True if it came by itself and well, False if it was killed."""
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL, status
        return False
    assert os.WEXITSTATUS(status) == 0, "a training failed, see its log"
    return True


def kill_after(child: int, computing_s: float) -> None:
    """Kill the child when it has computed for so long, however busy the machine is."""
    while measure_computing(child) < computing_s:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return
        time.sleep(0.0005)
    os.kill(child, signal.SIGKILL)


def measure_computing(process: int) -> float:
    """Seconds of a processor that a process has used, by the clock that Linux has for it."""
    return time.clock_gettime((~process << 3) | 2)


def resumed_after(output: Path) -> int:
    """The epoch that the log says the training went on after; 0 if it began."""
    found = re.search(r"going on after epoch (\d+)", Path(f"{output.parent}.log").read_text())
    return int(found[1]) if found else 0


def digest_results(output: Path) -> list[str]:
    """Digests of the weights and of the history without its seconds."""
    lines = (output.parent / "history.tsv").read_text().splitlines()
    history = "\n".join(line.rsplit("\t", 1)[0] for line in lines).encode()
    weights = [output.parent / f"{name}.safetensors" for name in ("last", "best")]
    return [
        hashlib.sha256(c).hexdigest() for c in (*(path.read_bytes() for path in weights), history)
    ]


def kill_at_random(root: Path, kills: int, longest_s: float, draw: random.Random) -> dict[str, Any]:
    """Kill a training ``kills`` times, each up to ``longest_s`` of computing after its start.

    If it ends before, that is a result, and another begins.
    """
    output = root / "random" / "model.json"
    resumed: list[int] = []
    results: list[list[str]] = []
    drafts = 0
    while kills or not results or output.parent.exists():
        child = start_training(root, output)
        if kills:
            kill_after(child, draw.uniform(0, longest_s))
        if has_finished(child):
            results.append(digest_results(output))
            shutil.rmtree(output.parent)
        else:
            kills -= 1
            drafts += any(output.parent.rglob("*.tmp"))
        resumed.append(resumed_after(output))
    return {"resumed": resumed, "results": results, "drafts": drafts}


def kill_at_files(root: Path) -> dict[str, Any]:
    """Kill a training at the first change that it makes to its files, then at the second, and on.

    What one leaves the next goes on from, until one ends.
    """
    output = root / "files" / "model.json"
    resumed = []
    for number in range(1, 1000):
        child = start_training(root, output, functools.partial(die_at, number, str(output.parent)))
        ended = has_finished(child)
        resumed.append(resumed_after(output))
        if ended:
            break
    return {"resumed": resumed, "results": [digest_results(output)]}


def die_at(number: int, folder: str) -> None:
    """Kill this process before the ``number``-th time that it changes something in ``folder``."""
    left = number

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        changes = event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir") or (
            event == "open" and arguments[1] not in ("r", None)
        )
        if changes and str(arguments[0]).startswith(folder):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


def start_shared(root: Path, output: Path, processes: int) -> list[int]:
    """Fork the processes of one training, as torchrun would."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    environment |= {"GLOO_SOCKET_IFNAME": "lo"}

    def prepare(rank: int) -> None:
        os.environ.update(environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)})

    return [
        start_training(
            root, output, functools.partial(prepare, rank), SHARED, f"log{rank}" if rank else "log"
        )
        for rank in range(processes)
    ]


def share(root: Path) -> dict[str, Any]:
    """One training by one process, by two, and by two that are killed when an epoch is saved."""
    one, two, killed = (root / name / "model.json" for name in ("one", "two", "killed"))
    for output, processes in ((one, 1), (two, 2), (killed, 2)):
        children = start_shared(root, output, processes)
        if output == killed:
            while not (killed.parent / "state" / "state.json").exists():
                time.sleep(0.001)
            for child in children:
                os.kill(child, signal.SIGKILL)
        ended = [has_finished(child) for child in children]
        assert all(ended) != (output == killed)
    children = start_shared(root, killed, 2)
    assert all([has_finished(child) for child in children])
    results = {output.parent.name: digest_results(output) for output in (one, two, killed)}
    return {"results": results, "resumed": resumed_after(killed)}


def main(root: Path, seed: int) -> None:
    for study, lesions in LESIONS.items():
        write_resampled(root, study, lesions)
    write_cohort(root / "train.tsv", dict.fromkeys(LESIONS, 1))
    output = root / "whole" / "model.json"
    assert has_finished(start_training(root, output))
    whole_s = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    at_files = kill_at_files(root)
    at_random = kill_at_random(root, 20, whole_s / 3, random.Random(seed))
    result = {"whole": digest_results(output), "whole_s": whole_s, "shared": share(root)}
    print(json.dumps(result | {"files": at_files, "random": at_random}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
