"""Find lesions in new studies with a package: each fold's network, coarse first, and the mean."""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from locate_regions import locate_regions
from petct.arrays import load_array
from petct.command_line import exit_on_error
from petct.grids import Grid
from petct.job_state import hold_lock, job_key
from petct.manifests import read_json, write_json
from petct.predictions import (
    find_entry,
    keep_predictions,
    merge_entries,
    save_prediction,
)
from predict_network import predict_network
from predict_nnunet import predict_nnunet

STUDY_COLUMNS = ["study", "patient"]


def predict_studies(
    studies: Path, package: Path, resampled: Path, threads: int, code: str, output: Path
) -> None:
    """Write masks and probabilities by the mean of all folds below ``output``'s folder, then it.

    ``studies`` is the index's studies.tsv, ``package`` the unpacked package.json. ``output`` lists
    each study: ``mask``, ``probability`` and its ``grid`` as predict_network writes them, and in
    ``folds`` the masks of the networks alone. Studies that resample_study left out are left out.
    What was made by the same code from the same data stays.
    """
    description = read_json(package)
    folder = output.parent
    cohort = list_studies(studies, resampled, folder / "studies.tsv")
    coarse: list[Path] = []
    regions: list[Path] = []
    folds: list[Path] = []
    mean = output
    for stage in description["stages"]:
        stage_folder = folder / stage["name"]
        if stage["strategy"]["regions"] == "boxes":
            regions = [stage_folder / "regions.json"]
            locate_regions(
                cohort,
                coarse[0],
                resampled,
                description["regions"] | {"grid": stage["strategy"]["grid"]},
                regions[0],
                stage_folder / "regions.tsv",
            )
        prior = coarse if stage["strategy"]["prior"] else []
        folds = []
        for fold in stage["folds"]:
            model = package.parent / f"{stage['name']}/fold-{fold}/model.json"
            folds.append(stage_folder / f"fold-{fold}/predictions.json")
            print(f"{stage['name']}, fold {fold}", flush=True)
            shared = (prior, regions, resampled, stage["inference"], threads, code, folds[-1])
            if stage["kind"] == "nnunet":
                predict_nnunet(cohort, model, model.with_name("plans.json"), *shared)
            else:
                predict_network(cohort, model, *shared)
        mean = stage_folder / "mean/predictions.json"
        average_folds(folds, resampled, stage["inference"]["threshold"], code, mean)
        coarse = [mean]
    write_json(output, {"studies": gather(mean, folds, folder)})


def list_studies(index: Path, resampled: Path, output: Path) -> Path:
    """Write the list of the studies that can be predicted; its path."""
    table = pd.read_csv(index, sep="\t", dtype=str, keep_default_na=False)
    usable = [
        read_json(resampled / study / "study.json")["status"] == "resampled"
        for study in table["study"]
    ]
    output.parent.mkdir(parents=True, exist_ok=True)
    table.loc[usable, STUDY_COLUMNS].to_csv(output, sep="\t", index=False)
    return output


def average_folds(
    folds: list[Path], resampled: Path, threshold: float, code: str, output: Path
) -> None:
    """Write the mean of the folds' probabilities of each study and the mask above ``threshold``."""
    predictions = [merge_entries([fold]) for fold in folds]
    keys = {
        study: job_key(code, [threshold, *(entries[study][1]["digest"] for entries in predictions)])
        for study in predictions[0]
    }
    with hold_lock(output.parent):
        entries = keep_predictions(output.parent, keys)
        for study in keys:
            if study in entries:
                continue
            started = time.perf_counter()
            found = [find_entry(fold, study, "predictions") for fold in predictions]
            total = np.zeros(Grid.from_json(found[0][1]["grid"]).shape_zyx, np.float32)
            for place, entry in found:
                total += load_array(place / entry["probability"])
            entries[study] = save_prediction(
                total / len(found), Grid.from_json(found[0][1]["grid"]),
                read_json(resampled / study / "study.json"), threshold, output.parent / study,
                keys[study], found[0][1]["boxes"], time.perf_counter() - started,
            )  # fmt: skip
        for path in output.parent.iterdir():
            if path.is_dir() and path.name not in keys:
                shutil.rmtree(path)
        write_json(output, {"studies": entries})


def gather(mean: Path, folds: list[Path], folder: Path) -> dict[str, dict[str, Any]]:
    """The entries of the mean, with the folds' masks beside them; paths relative to ``folder``."""
    entries = {}
    alone = [merge_entries([fold]) for fold in folds]
    for study, (place, entry) in merge_entries([mean]).items():
        own = entry | {
            name: str((place / entry[name]).relative_to(folder)) for name in ("mask", "probability")
        }
        found = [find_entry(fold, study, "predictions") for fold in alone]
        own["folds"] = [str((beside / one["mask"]).relative_to(folder)) for beside, one in found]
        entries[study] = own
    return entries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=Path, required=True, help="studies.tsv of the index")
    parser.add_argument("--package", type=Path, required=True, help="package.json, unpacked")
    parser.add_argument("--resampled", type=Path, required=True, help="folder of resample_study")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--code", required=True, help="digest of the code")
    parser.add_argument("--output", type=Path, required=True, help="predictions.json")
    predict_studies(**vars(parser.parse_args()))


if __name__ == "__main__":
    with exit_on_error():
        main()
