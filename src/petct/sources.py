"""Opening the studies that a strategy reads: arrays, boxes and coarse predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from petct.arrays import open_arrays
from petct.errors import PetctError
from petct.grids import Grid
from petct.manifests import read_json
from petct.patches import Index, Source, open_source


def open_sources(
    studies: list[str],
    resampled: Path,
    strategy: dict[str, Any],
    coarse: list[Path],
    regions: list[Path],
    at_least_zyx: Index,
    for_training: bool,
) -> dict[str, Source]:
    """Sources by study, in the given order.

    ``coarse`` are predictions.json files that together cover the studies, ``regions`` the same
    for boxes. A study without any box has nothing to look at: it is left out in training, and
    has a source without boxes otherwise. While training, boxes around the reference lesions stand
    beside those around the coarse prediction, so that what the coarse network missed is learnt.
    """
    predictions = _merge(coarse)
    boxes = _merge(regions)
    sources = {}
    for study in studies:
        arrays = open_arrays(resampled / study / strategy["grid"])
        boxes_zyx = None
        if strategy["regions"] != "body":
            entry = _entry(boxes, study, "regions")[1]
            rows = entry["boxes_zyx"] + (entry["reference_boxes_zyx"] if for_training else [])
            boxes_zyx = np.array(rows, dtype=int).reshape(-1, 6)
            if for_training and not rows:
                continue
        prior = None
        if strategy["prior"]:
            folder, entry = _entry(predictions, study, "coarse predictions")
            probability = np.load(folder / entry["probability"], mmap_mode="r")
            prior = (probability, Grid.from_json(entry["grid"]))
        sources[study] = open_source(arrays, boxes_zyx, prior, at_least_zyx)
    return sources


def read_probability(predictions: Path, study: str) -> tuple[np.ndarray, Grid]:
    """A study's coarse probability (Z, Y, X), memory-mapped, and its grid."""
    folder, entry = _entry(_merge([predictions]), study, "predictions")
    return np.load(folder / entry["probability"], mmap_mode="r"), Grid.from_json(entry["grid"])


def _merge(manifests: list[Path]) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Entries by study with the folder of their manifest."""
    merged = {}
    for path in manifests:
        for study, entry in read_json(path)["studies"].items():
            merged[study] = (path.parent, entry)
    return merged


def _entry(
    entries: dict[str, tuple[Path, dict[str, Any]]], study: str, what: str
) -> tuple[Path, dict[str, Any]]:
    if study not in entries:
        raise PetctError(
            f"study {study} has no {what}; these are there: {', '.join(sorted(entries))}"
        )
    return entries[study]
