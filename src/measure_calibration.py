"""Compare one fold's probabilities with the reference, voxel by voxel: a row per study and bin."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from petct.arrays import load_array, open_arrays
from petct.calibration import bin_probabilities, find_body
from petct.command_line import exit_on_error
from petct.errors import PetctError
from petct.grids import Grid
from petct.manifests import read_json
from petct.metrics import EXPERIMENT_COLUMNS, read_table
from petct.provenance import save_origin

COLUMNS = [
    *[*EXPERIMENT_COLUMNS, "fold", "study", "patient", "bin_low", "bin_high"],
    *["voxels", "probability_sum", "lesion_voxels"],
]


def measure_study(
    study: str, probability_file: Path, grid: Grid, arrays_folder: Path, settings: dict[str, Any]
) -> dict[str, np.ndarray]:
    """The columns of one study's rows: voxels of the body, by the probability they were given."""
    arrays = open_arrays(arrays_folder)
    if grid != arrays.grid:
        raise PetctError(
            f"study {study}: probability {probability_file} lies on {grid}, expected "
            f"{arrays.grid} of {arrays_folder}"
        )
    probability = load_array(probability_file)
    if probability.shape != arrays.label.shape:
        raise PetctError(
            f"study {study}: probability {probability_file} has shape {probability.shape} "
            f"(Z, Y, X), expected {arrays.label.shape}"
        )
    body = find_body(arrays.image[0], settings["ct_above_hu"] / settings["ct_limit_hu"])
    lesion = arrays.label[body] != 0
    try:
        counts = bin_probabilities(probability[body], lesion, settings["bins"])
    except PetctError as error:
        raise PetctError(f"study {study}: {probability_file}: {error}") from None
    outside = np.count_nonzero(arrays.label) - np.count_nonzero(lesion)
    print(
        f"{study}: {len(lesion)} voxels of the body, {np.count_nonzero(lesion)} of them lesion; "
        f"{outside} voxels of lesions outside it are left out",
        flush=True,
    )
    edges = np.arange(settings["bins"] + 1) / settings["bins"]
    names = ("bin_low", "bin_high", "voxels", "probability_sum", "lesion_voxels")
    return dict(zip(names, (edges[:-1], edges[1:], *counts), strict=True))


def measure_calibration(
    predictions: Path, cohort: Path, resampled: Path, settings: dict[str, Any], output: Path
) -> None:
    """Write ``bins`` rows per study of the predictions' fold in the cohort table.

    ``settings`` has ``grid``, the name of the strategy's grid, on which both the probability and
    the reference lie; ``bins``; and ``ct_above_hu`` and ``ct_limit_hu``, the density [HU] above
    which there is body and the one that the stored CT was divided by. Where a strategy did not
    look, its probability is 0 and counts as that. Raises PetctError if a study of the fold has no
    prediction, or one on another grid.
    """
    manifest = read_json(predictions)
    table = read_table(cohort)
    table = table[table["fold"] == manifest["fold"]].sort_values("study")
    rows = [pd.DataFrame(columns=COLUMNS)]
    for study, patient in zip(table["study"], table["patient"], strict=True):
        if study not in manifest["studies"]:
            raise PetctError(
                f"{predictions}: no prediction for {study} of fold {manifest['fold']}, expected "
                f"every study of that fold in {cohort}"
            )
        entry = manifest["studies"][study]
        counts = measure_study(
            study,
            predictions.parent / entry["probability"],
            Grid.from_json(entry["grid"]),
            resampled / study / settings["grid"],
            settings,
        )
        names = {key: manifest[key] for key in (*EXPERIMENT_COLUMNS, "fold")}
        rows.append(pd.DataFrame(counts).assign(**names, study=study, patient=patient))
    # Concatenated with the header alone, pandas would turn counts into objects.
    joined = pd.concat(rows[1:] or rows)[COLUMNS]
    output.parent.mkdir(parents=True, exist_ok=True)
    joined.to_csv(output, sep="\t", index=False, na_rep="nan", float_format="%.10g")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--predictions", type=Path, required=True, help="predictions.json")
    parser.add_argument("--cohort", type=Path, required=True, help="table of studies and folds")
    parser.add_argument("--resampled", type=Path, required=True, help="folder of resampled studies")
    parser.add_argument(
        "--settings",
        type=json.loads,
        required=True,
        help="JSON: grid, bins, ct_above_hu, ct_limit_hu",
    )
    parser.add_argument("--output", type=Path, required=True, help="table of bins")
    parser.add_argument("--code", required=True, help="digest of the code")
    arguments = vars(parser.parse_args())
    code = arguments.pop("code")
    measure_calibration(**arguments)
    inputs = [arguments["predictions"], arguments["cohort"]]
    save_origin(arguments["output"], "measure_calibration", code, arguments["settings"], inputs)


if __name__ == "__main__":
    with exit_on_error():
        main()
