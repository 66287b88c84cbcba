"""Measure a new study's lesions, how sure the networks are, and whether a person should look."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from petct.command_line import exit_on_error
from petct.grids import Grid, restore_native
from petct.image_files import load_volume, save_volume
from petct.lesion_measures import (
    LesionMeasure,
    largest_distance_mm,
    measure_lesions,
    number_lesions,
)
from petct.manifests import read_json, write_json
from petct.predictions import find_entry, merge_entries, read_probability

COLUMNS = [
    *["lesion", "side", "below_top_mm", "x_mm", "y_mm", "z_mm", "volume_ml"],
    *["suv_max", "suv_mean", "suv_peak", "tlg"],
    *["probability_mean", "probability_max", "folds_agreeing", "folds"],
]
# A centroid this close to the middle of the body is on neither side.
MIDLINE_MM = 10.0
# A new study's voxels and maximum SUV may lie outside the dataset's range by this factor.
RANGE_FACTOR = 1.25


def describe_lesions(
    study: Path,
    resampled: Path,
    predictions: Path,
    package: Path,
    settings: dict[str, Any],
    output: Path,
) -> None:
    """Write lesions.tsv, numbers.nii.gz and probability.nii.gz beside ``output``, then ``output``.

    ``study`` is convert_study's manifest, ``resampled`` that of resample_study, ``predictions``
    lists what predict_studies found, ``package`` is the unpacked package.json. ``settings``:
    ``connectivity`` and ``disagreement``, the mean Dice of two folds' masks below which a person
    should look. numbers.nii.gz has each voxel's lesion, probability.nii.gz the folds' mean, both on
    the native PET grid. ``output`` (study.json) has the totals, and under ``look`` why a person
    should look at the study. An excluded study has its reason alone.
    """
    converted, brought = read_json(study), read_json(resampled)
    if brought["status"] == "excluded":
        write_json(output, {key: brought[key] for key in ("study", "patient", "status", "reason")})
        return
    name = brought["study"]
    entries = merge_entries([predictions])
    folder, entry = find_entry(entries, name, "predictions")
    description = read_json(package)
    suv, grid = load_volume(study.parent / "suv.nii.gz")
    mask, _ = load_volume(folder / entry["mask"])
    on_grid, fine = read_probability(entries, name, "predictions")
    body = brought["body_start_zyx"], brought["body_stop_zyx"]
    probability = restore_native(np.asarray(on_grid, np.float32), fine, grid, *body)
    numbers = number_lesions(mask > 0, settings["connectivity"])
    lesions = measure_lesions(numbers, suv, grid)
    folds = [load_volume(folder / fold)[0] > 0 for fold in entry["folds"]]
    # Of each fold and lesion, 0 being none: does it see any of its voxels?
    seen = [np.bincount(numbers[fold], minlength=len(lesions) + 1) > 0 for fold in folds]

    chance = calibrate(probability[mask > 0], description["calibration"])
    of = numbers[mask > 0]
    middle_mm, top_mm = find_body_frame(suv, grid, settings["body_above_suv"])
    rows = []
    for lesion in lesions:
        own = chance[of == lesion.number]
        rows.append(
            describe_place(lesion, grid, middle_mm, top_mm)
            | {
                key: getattr(lesion, key)
                for key in ("volume_ml", "suv_max", "suv_mean", "suv_peak", "tlg")
            }
            | {
                "lesion": lesion.number,
                "probability_mean": float(own.mean()),
                "probability_max": float(own.max()),
                "folds_agreeing": sum(bool(one[lesion.number]) for one in seen),
                "folds": len(folds),
            }
        )
    agreement = mean_dice(folds)
    totals = {
        "study": name,
        "patient": brought["patient"],
        "status": "described",
        "lesions": len(lesions),
        "mtv_ml": float(sum(lesion.volume_ml for lesion in lesions)),
        "tlg": float(sum(lesion.tlg for lesion in lesions)),
        "suv_max": max((lesion.suv_max for lesion in lesions), default=None),
        "largest_distance_mm": none_if_undefined(largest_distance_mm(lesions)),
        "probability": float(chance.max()) if chance.size else None,
        "fold_mtv_ml": [float(fold.sum()) * grid.voxel_ml for fold in folds],
        "fold_dice": none_if_undefined(agreement),
        "bounding_zyx": {lesion.number: asdict(lesion)["bounding_zyx"] for lesion in lesions},
        "warnings": converted["warnings"],
        "look": list_reasons(converted, description, agreement, rows, settings),
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows, columns=COLUMNS).to_csv(
        output.with_name("lesions.tsv"), sep="\t", index=False, float_format="%.6g"
    )
    save_volume(numbers, grid, output.with_name("numbers.nii.gz"))
    save_volume(probability, grid, output.with_name("probability.nii.gz"))
    write_json(output, totals)
    print(f"{name}: {len(lesions)} lesions, MTV {totals['mtv_ml']:.1f} mL, TLG {totals['tlg']:.1f}")
    for reason in totals["look"]:
        print(f"{name}: a person should look: {reason}")


def calibrate(probability: np.ndarray, curve: list[list[float]]) -> np.ndarray:
    """How often such voxels were lesion; ``curve`` as package_model fits it, empty: unchanged."""
    if not curve:
        return probability
    given, observed = np.array(curve).T
    return np.interp(probability, given, observed).astype(np.float32)


def find_body_frame(suv: np.ndarray, grid: Grid, above: float) -> tuple[float, float]:
    """The body's middle and top, LPS mm: median x and highest z of voxels above ``above``."""
    at = np.flatnonzero(suv > above)
    if not at.size:
        return 0.0, 0.0
    zyx = np.stack(np.unravel_index(at, suv.shape), axis=1)
    axes = np.array(grid.direction).reshape(3, 3) * grid.spacing_xyz_mm
    places = zyx[:, ::-1] @ axes.T + grid.origin_xyz_mm
    return float(np.median(places[:, 0])), float(places[:, 2].max())


def describe_place(
    lesion: LesionMeasure, grid: Grid, middle_mm: float, top_mm: float
) -> dict[str, Any]:
    """Side and depth: no more can be told without knowing the organs."""
    x, y, z = lesion.centroid_xyz_mm
    side = "midline" if abs(x - middle_mm) <= MIDLINE_MM else "left" if x > middle_mm else "right"
    return {"side": side, "below_top_mm": top_mm - z, "x_mm": x, "y_mm": y, "z_mm": z}


def mean_dice(masks: list[np.ndarray]) -> float:
    """The mean Dice of all pairs; two empty masks agree; NaN of fewer than two."""
    values = []
    for one, other in combinations(masks, 2):
        total = int(one.sum()) + int(other.sum())
        values.append(2 * int((one & other).sum()) / total if total else 1.0)
    return float(np.mean(values)) if values else float("nan")


def none_if_undefined(value: float) -> float | None:
    return None if np.isnan(value) else value


def list_reasons(
    converted: dict[str, Any],
    description: dict[str, Any],
    agreement: float,
    rows: list[dict[str, Any]],
    settings: dict[str, Any],
) -> list[str]:
    """Why a person should look at a study; [] if nothing speaks for it."""
    reasons = []
    if agreement < settings["disagreement"]:
        reasons.append(
            f"the folds' networks disagree: mean Dice of their masks {agreement:.2f}, expected"
            f" {settings['disagreement']:g} or more"
        )
    lonely = [str(row["lesion"]) for row in rows if 2 * row["folds_agreeing"] <= row["folds"]]
    if lonely:
        reasons.append(f"no more than half of the networks see lesion {', '.join(lonely)}")
    data = description["data"]
    low, high = data["suv_max"]
    if not low / RANGE_FACTOR <= converted["suv_max"] <= high * RANGE_FACTOR:
        reasons.append(
            f"its maximum SUV is {converted['suv_max']:.3g}; in the dataset {low:.3g} to {high:.3g}"
        )
    spacing = converted["pet"]["spacing_xyz_mm"][::-1]
    for axis, side, least, most in zip("zyx", spacing, *data["pet_spacing_zyx_mm"], strict=True):
        if not least / RANGE_FACTOR <= side <= most * RANGE_FACTOR:
            reasons.append(
                f"its PET's voxels are {side:.3g} mm along {axis}; in the dataset {least:.3g} to"
                f" {most:.3g}"
            )
    # Networks see voxels as they are stored: a body that is stored turned round is another sight.
    along = np.diag(np.reshape(converted["pet"]["direction"], (3, 3)))
    if turned := [axis for axis, cosine in zip("xyz", along, strict=True) if cosine < 0.5]:
        reasons.append(
            f"its PET is stored the other way round along {', '.join(turned)}: the networks were"
            " not made for that"
        )
    covered = converted["ct"]["covers_pet_share"]
    low, high = data["ct_covers_pet_share"]
    if covered == 0 < low:
        reasons.append("there is no CT")
    elif covered < low / RANGE_FACTOR:
        reasons.append(
            f"the CT covers {100 * covered:.0f} % of the PET; in the dataset {100 * low:.0f} to"
            f" {100 * high:.0f} %"
        )
    return reasons


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", type=Path, required=True, help="study.json of convert_study")
    parser.add_argument("--resampled", type=Path, required=True, help="that of resample_study")
    parser.add_argument("--predictions", type=Path, required=True, help="of predict_studies")
    parser.add_argument("--package", type=Path, required=True, help="package.json, unpacked")
    parser.add_argument("--settings", type=json.loads, required=True, help="JSON object")
    parser.add_argument("--output", type=Path, required=True, help="study.json")
    describe_lesions(**vars(parser.parse_args()))


if __name__ == "__main__":
    with exit_on_error():
        main()
