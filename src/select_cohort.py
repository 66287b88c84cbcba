"""Say who trains and who tests in each fold, and who was left out and why."""

from __future__ import annotations

import argparse
import csv
import json
import os
from pathlib import Path
from typing import Any

import pandas as pd

from petct.command_line import exit_on_error
from petct.errors import PetctError
from petct.folds import assign_folds
from petct.manifests import read_json, whole_table
from petct.provenance import save_origin

COLUMNS = ["study", "patient", "positive", "fold", "trains", "lesion_ml", "digest"]
EXCLUDED_COLUMNS = ["study", "patient", "step", "reason", "file"]


def select_cohort(
    index: Path, resampled: Path, settings: dict[str, Any], output_folder: Path, excluded: Path
) -> None:
    """Write ``<cohort>.tsv``, each fold's train and test list, folds.tsv and the exclusions.

    Every usable study is tested once, in its patient's fold, whatever the cohort. ``trains`` says
    who may train: everyone in cohort ``all``, studies with lesions in ``positive``. A list holds
    each study's content digest: what depends on it reruns when a study's voxels change, and a
    fold's training does not see the studies that it does not train on.
    """
    table = pd.read_csv(
        whole_table(index / "studies.tsv"), sep="\t", dtype=str, keep_default_na=False
    )
    manifests = [read_json(resampled / study / "study.json") for study in table["study"]]
    left_out = pd.concat(
        [
            pd.read_csv(
                whole_table(index / "excluded.tsv"), sep="\t", dtype=str, keep_default_na=False
            ),
            pd.DataFrame(
                [m for m in manifests if m["status"] == "excluded"], columns=EXCLUDED_COLUMNS
            ),
        ]
    )
    write_table(left_out[EXCLUDED_COLUMNS].sort_values("study"), excluded)
    used = [m for m in manifests if m["status"] != "excluded"]
    for reason, study in zip(left_out["reason"], left_out["study"], strict=True):
        print(f"excluded {study}: {reason}")
    for study in sorted({folder.name for folder in resampled.iterdir()} - set(table["study"])):
        print(f"no longer in the index: {study}; what was made of it stays, and nothing reads it")
    if not used:
        raise PetctError(f"no study is left to work with; the reasons are in {excluded}")

    positive_of: dict[str, bool] = {}
    for manifest in used:
        patient = manifest["patient"]
        positive_of[patient] = positive_of.get(patient, False) or manifest["positive"]
    if len(positive_of) < settings["folds"]:
        raise PetctError(
            f"{settings['folds']} folds need as many patients; there are {len(positive_of)}"
            f" ({', '.join(sorted(positive_of))}). Lower `folds` or add studies."
        )
    ledger = output_folder / "folds.tsv"
    drawn = {"folds": settings["folds"], "seed": settings["seed"]}
    kept = read_folds(ledger, drawn)
    fold_of = assign_folds(positive_of, settings["folds"], settings["seed"], kept)
    places = sorted((kept | fold_of).items())
    write_table(pd.DataFrame(places, columns=["patient", "fold"]).assign(**drawn), ledger)
    studies = pd.DataFrame(used).sort_values("study")
    studies["fold"] = studies["patient"].map(fold_of)
    for fold in range(settings["folds"]):
        tested = studies[studies["fold"] == fold].assign(trains=False)
        write_table(tested[COLUMNS], output_folder / "test" / f"fold-{fold}.tsv")
    for cohort in settings["cohorts"]:
        members = studies.assign(trains=studies["positive"] if cohort == "positive" else True)
        write_table(members[COLUMNS], output_folder / f"{cohort}.tsv")
        for fold in range(settings["folds"]):
            train = members[members["trains"] & (members["fold"] != fold)]
            if not train["positive"].any():
                raise PetctError(
                    f"cohort {cohort}, fold {fold}: no study with lesions is left to train on"
                    f" ({len(train)} studies). Lower `folds` or add studies with lesions."
                )
            write_table(train[COLUMNS], output_folder / cohort / f"fold-{fold}" / "train.tsv")
            print(
                f"cohort {cohort}, fold {fold}: {len(train)} studies train"
                f" ({int(train['positive'].sum())} with lesions),"
                f" {int((studies['fold'] == fold).sum())} test"
            )


def read_folds(ledger: Path, drawn: dict[str, int]) -> dict[str, int]:
    """The folds of an earlier run, if drawn with the same number and seed.

    Patients who are gone keep their place, in case they come back.
    """
    if not ledger.exists():
        return {}
    table = pd.read_csv(
        whole_table(ledger), sep="\t", dtype={"patient": str}, keep_default_na=False
    )
    same = (table["folds"] == drawn["folds"]) & (table["seed"] == drawn["seed"])
    return dict(zip(table["patient"][same], table["fold"][same].tolist(), strict=True))


def write_table(table: pd.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # folds.tsv outlives its job: a kill must not leave half of the patients in it.
    draft = path.with_name(path.name + ".tmp")
    table.to_csv(draft, sep="\t", index=False, quoting=csv.QUOTE_MINIMAL)
    os.replace(draft, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--resampled", type=Path, required=True)
    parser.add_argument("--settings", type=json.loads, required=True)
    parser.add_argument("--output-folder", type=Path, required=True)
    parser.add_argument("--excluded", type=Path, required=True)
    parser.add_argument("--code", required=True, help="digest of the code")
    arguments = vars(parser.parse_args())
    code = arguments.pop("code")
    select_cohort(**arguments)
    index, resampled = arguments["index"], arguments["resampled"]
    table = pd.read_csv(
        whole_table(index / "studies.tsv"), sep="\t", dtype=str, keep_default_na=False
    )
    inputs = [index / "studies.tsv", index / "excluded.tsv"]
    inputs += [resampled / study / "study.json" for study in table["study"]]
    save_origin(arguments["excluded"], "select_cohort", code, arguments["settings"], inputs)


if __name__ == "__main__":
    with exit_on_error():
        main()
