"""Draw boxes around what a coarse network found, for a fine one to look into."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import ndimage

from petct.arrays import open_arrays
from petct.boxes import cover_boxes, merge_boxes, place_boxes
from petct.command_line import exit_on_error
from petct.folds import read_cohort
from petct.manifests import write_json
from petct.predictions import merge_entries, read_probability
from petct.provenance import save_origin
from petct.regions import cluster_boxes, find_peaks

COLUMNS = [
    "study", "origin", "boxes", "boxes_ml", "body_ml", "lesions_reference", "lesions_missed",
    "reference_outside_ml",
]  # fmt: skip


def locate_regions(
    cohort: Path,
    coarse: Path | None,
    resampled: Path,
    settings: dict[str, Any],
    output: Path,
    table: Path,
) -> None:
    """Write boxes by study to ``output`` and what they cost and miss to ``table``.

    ``coarse`` holds the predictions that the boxes go around. Where it found nothing, boxes go
    around its probability's peaks; where there are none, there is no box and hence no lesion.
    Without ``coarse``, boxes go around the reference lesions: an upper bound, not a method.
    ``reference_boxes_zyx`` are for training alone.
    """
    predictions = merge_entries([coarse] if coarse else [])
    entries, rows = {}, []
    for study in read_cohort(cohort)["study"]:
        arrays = open_arrays(resampled / study / settings["grid"])
        label = np.asarray(arrays.label)
        lesions, number = ndimage.label(label, structure=ndimage.generate_binary_structure(3, 2))
        around = [
            [*(side.start for side in box), *(side.stop for side in box)]
            for box in ndimage.find_objects(lesions)
        ]
        reference = np.array(around, int).reshape(-1, 6)
        reference = merge_boxes(
            place_boxes(reference, arrays.grid, arrays.grid, settings["margin_mm"])
        )
        if coarse is None:
            boxes, origin = reference, "reference"
        else:
            probability, grid = read_probability(predictions, study, "predictions")
            found, origin = find_boxes(np.asarray(probability, np.float32), grid, settings)
            boxes = merge_boxes(place_boxes(found, grid, arrays.grid, settings["margin_mm"]))
        covered = cover_boxes(boxes, arrays.grid.shape_zyx)
        touched = np.unique(lesions[covered & (label > 0)])
        outside_ml = float((label[~covered] > 0).sum()) * arrays.grid.voxel_ml
        entries[study] = {
            "boxes_zyx": boxes.tolist(),
            "reference_boxes_zyx": reference.tolist(),
            "origin": origin,
        }
        rows.append(
            {
                "study": study,
                "origin": origin,
                "boxes": len(boxes),
                "boxes_ml": round(float(covered.sum()) * arrays.grid.voxel_ml, 3),
                "body_ml": round(float(covered.size) * arrays.grid.voxel_ml, 3),
                "lesions_reference": number,
                "lesions_missed": number - len(touched),
                "reference_outside_ml": round(outside_ml, 3),
            }
        )
        print(
            f"{study}: {len(boxes)} boxes from {origin},"
            f" {number - len(touched)} of {number} lesions outside"
        )
    table.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows, columns=COLUMNS).to_csv(table, sep="\t", index=False)
    write_json(output, {"studies": entries})


def find_boxes(
    probability: np.ndarray, grid: Any, settings: dict[str, Any]
) -> tuple[np.ndarray, str]:
    """Boxes on the coarse grid and what they come from: clusters, peaks or nothing."""
    boxes = cluster_boxes(
        probability >= settings["probability"],
        grid,
        settings["cluster_distance_mm"],
        settings["cluster_voxels"],
    )
    if len(boxes):
        return boxes, "clusters"
    boxes = find_peaks(probability, settings["peaks"], settings["peak_probability"])
    return boxes, "peaks" if len(boxes) else "nothing"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cohort", type=Path, required=True)
    parser.add_argument("--coarse", type=Path, nargs="?")
    parser.add_argument("--resampled", type=Path, required=True)
    parser.add_argument("--settings", type=json.loads, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--code", required=True, help="digest of the code")
    arguments = vars(parser.parse_args())
    code = arguments.pop("code")
    locate_regions(**arguments)
    inputs = [arguments["cohort"], *filter(None, [arguments["coarse"]])]
    save_origin(arguments["table"], "locate_regions", code, arguments["settings"], inputs)


if __name__ == "__main__":
    with exit_on_error():
        main()
