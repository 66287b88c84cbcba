"""Predict lesions with a fixed SUV threshold: the baseline that a network has to better."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from petct.command_line import exit_on_error
from petct.errors import PetctError
from petct.folds import read_cohort
from petct.grids import Grid
from petct.image_files import load_image, save_volume
from petct.job_state import hold_lock
from petct.manifests import digest_arrays, write_json
from petct.predictions import (
    finish_prediction,
    keep_predictions,
    key_predictions,
    start_prediction,
)


def above_threshold(suv: np.ndarray, kind: str, value: float) -> np.ndarray:
    """A boolean mask of the (Z, Y, X) SUV array [g/mL].

    ``kind`` "suv": SUV > ``value`` [g/mL]. ``kind`` "share_of_maximum": SUV >= ``value`` times the
    study's maximum SUV; a study without any uptake gives an empty mask.
    """
    if kind == "suv":
        return suv > value
    if kind == "share_of_maximum":
        maximum = float(suv.max())
        return (suv >= value * maximum) & (maximum > 0)
    raise PetctError(f"threshold kind: got {kind!r}, expected 'suv' or 'share_of_maximum'")


def predict_threshold(
    cohort: Path,
    converted: Path,
    model: str,
    fold: int,
    settings: dict[str, Any],
    code: str,
    output: Path,
) -> None:
    """Write a mask of every study of ``fold`` in the cohort table, then the manifest ``output``.

    ``converted`` is the folder of converted studies. ``settings`` has ``kind`` and ``value``, see
    ``above_threshold``. ``model`` is the threshold's name in the tables. Studies that are
    predicted already, by the same ``code`` and from the same, stay.
    """
    table = read_cohort(cohort)
    studies = sorted(table.loc[table["fold"] == fold, "study"])
    keys = key_predictions(studies, converted, [], [], code, settings)
    with hold_lock(output.parent):
        entries = keep_predictions(output.parent, keys)
        for study, key in keys.items():
            if study not in entries:
                source = converted / study / "suv.nii.gz"
                entries[study] = predict_study(source, settings, output.parent / study, key)
        experiment = {"strategy": "threshold", "model": model, "cohort": "none"}
        write_json(output, {**experiment, "fold": fold, "studies": entries})


def predict_study(source: Path, settings: dict[str, Any], folder: Path, key: str) -> dict[str, Any]:
    """Write the mask of the SUV image ``source`` into ``folder``; its entry of the manifest."""
    study = folder.name
    if not source.is_file():
        raise PetctError(f"study {study}: no SUV image at {source}")
    image = load_image(source)
    suv = sitk.GetArrayViewFromImage(image)
    mask = above_threshold(suv, settings["kind"], settings["value"]).astype(np.uint8)
    grid = Grid.from_image(image)
    start_prediction(folder)
    target = folder / "lesions.nii.gz"
    save_volume(mask, grid, target)
    entry = {
        "mask": f"{study}/lesions.nii.gz",
        "digest": digest_arrays(mask, geometry=grid.to_json()),
    }
    finish_prediction(folder, key, entry)
    print(f"{study}: {int(mask.sum()) * grid.voxel_ml:.1f} mL", flush=True)
    return entry


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cohort", type=Path, required=True, help="table of studies and folds")
    parser.add_argument("--converted", type=Path, required=True, help="folder of converted studies")
    parser.add_argument("--model", required=True, help="the threshold's name")
    parser.add_argument("--fold", type=int, required=True)
    parser.add_argument("--settings", type=json.loads, required=True, help="JSON: kind, value")
    parser.add_argument("--code", required=True, help="its digest")
    parser.add_argument("--output", type=Path, required=True, help="predictions.json")
    predict_threshold(**vars(parser.parse_args()))


if __name__ == "__main__":
    with exit_on_error():
        main()
