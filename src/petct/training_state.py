"""What a training goes on from after it was killed: its state after the last finished epoch.

A state is a file of tensors and numbers, without code, and ``state.json``, which names it, tells
whose it is and holds its digest. A kill while one is written leaves the one before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from petct.manifests import read_json, write_json
from petct.trained_models import digest_file, replace_file


@dataclass(frozen=True)
class TrainingState:
    """After ``epoch`` epochs: last weights, the optimiser's state, the best weights so far.

    What is drawn at random hangs on seed and epoch alone, and the schedule on the epoch.
    ``best`` is empty while there is none. ``precisions`` are what was computed in, sorted: more
    than one where a training went on on another device.
    """

    epoch: int
    last: dict[str, torch.Tensor]
    optimiser: dict[str, Any]
    best: dict[str, torch.Tensor]
    best_epoch: int
    best_loss: float
    history: list[dict[str, float]]
    precisions: list[str]


def save_state(folder: Path, key: str, state: TrainingState) -> None:
    """Put ``state`` into ``folder`` in place of what is there, as the job's of this ``key``."""
    write_state(folder, key, state.epoch, vars(state))


def load_state(folder: Path, key: str) -> TrainingState | None:
    """The state in ``folder`` if it is the job's of this ``key`` and whole, else None."""
    values = read_state(folder, key)
    return None if values is None else TrainingState(**values)


def write_state(folder: Path, key: str, epoch: int, values: dict[str, Any]) -> None:
    """The same of any state: ``values`` are tensors, numbers, texts and lists or dicts of them."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"epoch-{epoch}.pt"
    with replace_file(path) as draft:
        torch.save(values, draft)
    write_json(folder / "state.json", {"key": key, "file": path.name, "digest": digest_file(path)})
    for other in folder.glob("epoch-*"):
        if other != path:
            other.unlink()


def read_state(folder: Path, key: str) -> dict[str, Any] | None:
    """The values in ``folder`` if they are the job's of this ``key`` and whole, else None.

    A line says why a state that is there is not gone on from.
    """
    try:
        note = read_json(folder / "state.json")
    except FileNotFoundError:
        return None
    except ValueError:
        note = {"key": key, "file": "", "digest": ""}
    path = folder / note["file"]
    if note["key"] != key:
        print(
            f"the state in {folder} is of other code, settings or data: starting anew", flush=True
        )
        return None
    if not path.is_file() or digest_file(path) != note["digest"]:
        print(f"the state in {folder} is damaged: starting anew", flush=True)
        return None
    values: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return values
