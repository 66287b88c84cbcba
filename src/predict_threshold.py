"""Predict lesions with a fixed SUV threshold: the baseline that a network has to better."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import SimpleITK as sitk

from petct.command_line import exit_on_error
from petct.errors import PetctError
from petct.grids import Grid
from petct.manifests import digest_arrays, write_json


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
    cohort: Path, converted: Path, model: str, fold: int, settings: dict[str, Any], output: Path
) -> None:
    """Write a mask of every study of ``fold`` in the cohort table, then the manifest ``output``.

    ``converted`` is the folder of converted studies. ``settings`` has ``kind`` and ``value``, see
    ``above_threshold``. ``model`` is the threshold's name in the tables.
    """
    table = pd.read_csv(cohort, sep="\t", dtype={"study": str}, keep_default_na=False)
    studies = {}
    for study in sorted(table.loc[table["fold"] == fold, "study"]):
        source = converted / study / "suv.nii.gz"
        if not source.is_file():
            raise PetctError(f"study {study}: no SUV image at {source}")
        image = sitk.ReadImage(source)
        mask = above_threshold(
            sitk.GetArrayViewFromImage(image), settings["kind"], settings["value"]
        ).astype(np.uint8)
        grid = Grid.from_image(image)
        target = output.parent / study / "lesions.nii.gz"
        target.parent.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(grid.to_image(mask), target, useCompression=True, compressionLevel=1)
        studies[study] = {
            "mask": f"{study}/lesions.nii.gz",
            "digest": digest_arrays(mask, geometry=grid.to_json()),
        }
        print(f"{study}: {int(mask.sum()) * grid.voxel_ml:.1f} mL", flush=True)
    write_json(
        output,
        {
            "strategy": "threshold",
            "model": model,
            "cohort": "none",
            "fold": fold,
            "studies": studies,
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cohort", type=Path, required=True, help="table of studies and folds")
    parser.add_argument("--converted", type=Path, required=True, help="folder of converted studies")
    parser.add_argument("--model", required=True, help="the threshold's name")
    parser.add_argument("--fold", type=int, required=True)
    parser.add_argument("--settings", type=json.loads, required=True, help="JSON: kind, value")
    parser.add_argument("--output", type=Path, required=True, help="predictions.json")
    predict_threshold(**vars(parser.parse_args()))


if __name__ == "__main__":
    with exit_on_error():
        main()
