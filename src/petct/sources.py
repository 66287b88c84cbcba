"""Opening the studies that a strategy reads: arrays, boxes and coarse predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from petct.arrays import open_arrays
from petct.grids import Index
from petct.patches import Source, open_source
from petct.predictions import find_entry, merge_entries, read_probability


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
    predictions = merge_entries(coarse)
    boxes = merge_entries(regions)
    sources = {}
    for study in studies:
        arrays = open_arrays(resampled / study / strategy["grid"])
        boxes_zyx = None
        if strategy["regions"] != "body":
            entry = find_entry(boxes, study, "regions")[1]
            rows = entry["boxes_zyx"] + (entry["reference_boxes_zyx"] if for_training else [])
            boxes_zyx = np.array(rows, dtype=int).reshape(-1, 6)
            if for_training and not rows:
                continue
        prior = None
        if strategy["prior"]:
            prior = read_probability(predictions, study, "coarse predictions")
        sources[study] = open_source(arrays, boxes_zyx, prior, at_least_zyx)
    return sources
