"""What a training leaves on disk, whichever network it was, and how a finished one is told.

Snakemake deletes a job's declared outputs before it starts the job. The weights are not among
them: beside them ``finished.json`` says which job they are of, so that a job that is merely planned
again, or whose Snakemake was killed, need not train again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from petct.errors import PetctError
from petct.manifests import digest_arrays, read_json, write_json


def save_model(
    output: Path,
    key: str,
    description: dict[str, Any],
    studies: pd.DataFrame,
    validating: list[str],
    history: list[dict[str, float]],
    last: dict[str, torch.Tensor],
    best: dict[str, torch.Tensor],
) -> None:
    """Write last.safetensors, best.safetensors and history.tsv beside ``output``, then ``output``.

    ``output`` holds the ``description``, the ``studies`` (a table with study and digest) that were
    trained on, the ``validating`` ones among them, and digests of the weights. Between weights and
    outputs, finished.json notes that they are the job's of this ``key`` (``petct.job_state``), and
    the folder ``state``, in which a training keeps what it would go on from, is removed.
    """
    folder = output.parent
    folder.mkdir(parents=True, exist_ok=True)
    digests, files = {}, {}
    for name, weights in (("last", last), ("best", best)):
        path = folder / f"{name}.safetensors"
        with replace_file(path) as draft:
            # Its save_file would make a file that nobody else may read.
            draft.write_bytes(save(weights))
        digests[name] = digest_weights(weights)
        files[path.name] = digest_file(path)
    finished = {
        "key": key,
        "files": files,
        "history": pd.DataFrame(history).to_csv(sep="\t", index=False),
        "model": {
            **description,
            "studies": dict(zip(studies["study"], studies["digest"], strict=True)),
            "validation_studies": validating,
            "digests": digests,
        },
    }
    write_json(folder / "finished.json", finished)
    _write_outputs(output, finished)


def restore_model(output: Path, key: str) -> bool:
    """Write ``output`` and history.tsv again if the job of this ``key`` has finished before.

    False, and nothing written, if it has not, or if a file of its weights is no longer what it was.
    """
    folder = output.parent
    try:
        finished = read_json(folder / "finished.json")
    except (FileNotFoundError, ValueError):
        return False
    if finished["key"] != key:
        return False
    for name, digest in finished["files"].items():
        path = folder / name
        if not path.is_file() or digest_file(path) != digest:
            print(f"{path} is missing or not as it was written: training again", flush=True)
            return False
    print("trained before by the same code, settings and data: nothing to do", flush=True)
    _write_outputs(output, finished)
    return True


def _write_outputs(output: Path, finished: dict[str, Any]) -> None:
    shutil.rmtree(output.parent / "state", ignore_errors=True)
    (output.parent / "history.tsv").write_text(finished["history"])
    write_json(output, finished["model"])


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Yield a draft that takes the place of ``path`` if the block ends well.

    It is on disk before it does: neither a kill nor a crash of the machine leaves half a file.
    """
    draft = path.with_name(path.name + ".tmp")
    try:
        yield draft
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_weights(weights: dict[str, torch.Tensor]) -> str:
    """SHA-256 of a network's weights as float32, in the order of their names."""
    return digest_arrays(*(w.float().numpy() for _, w in sorted(weights.items())))


def load_weights(model: Path, checkpoint: str) -> dict[str, torch.Tensor]:
    """The weights of ``checkpoint`` (last, best) beside ``model`` (model.json), on the CPU.

    Raises PetctError if they are gone, unreadable or not those that model.json states.
    """
    path = model.with_name(f"{checkpoint}.safetensors")
    remedy = f"remove {model} to train again"
    if not path.is_file():
        raise PetctError(f"{path} is gone, but {model.name} beside it says it is there; {remedy}")
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise PetctError(f"{path} is cut short or damaged ({error}); {remedy}") from error
    stated, found = read_json(model)["digests"][checkpoint], digest_weights(weights)
    if found != stated:
        raise PetctError(
            f"{path} is not what {model.name} beside it was written for: its weights have digest"
            f" {found[:12]}, expected {stated[:12]}; {remedy}"
        )
    return weights
