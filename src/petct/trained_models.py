"""What a training leaves on disk, whichever network it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import save_file

from petct.manifests import digest_arrays, write_json


def save_model(
    output: Path,
    description: dict[str, Any],
    studies: pd.DataFrame,
    validating: list[str],
    history: list[dict[str, float]],
    last: dict[str, torch.Tensor],
    best: dict[str, torch.Tensor],
) -> None:
    """Write last.safetensors, best.safetensors and history.tsv beside ``output``, then ``output``.

    ``output`` holds the ``description``, the ``studies`` (a table with study and digest) that were
    trained on, the ``validating`` ones among them, and digests of the weights.
    """
    folder = output.parent
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(history).to_csv(folder / "history.tsv", sep="\t", index=False)
    digests = {}
    for name, weights in (("last", last), ("best", best)):
        save_file(weights, folder / f"{name}.safetensors")
        digests[name] = digest_arrays(*(w.float().numpy() for _, w in sorted(weights.items())))
    write_json(
        output,
        {
            **description,
            "studies": dict(zip(studies["study"], studies["digest"], strict=True)),
            "validation_studies": validating,
            "digests": digests,
        },
    )
