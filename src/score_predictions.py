"""Score one fold's predictions against the reference: one row per study."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, fields
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import SimpleITK as sitk

from petct.command_line import exit_on_error
from petct.errors import PetctError
from petct.grids import Grid
from petct.image_files import load_image
from petct.manifests import read_json
from petct.metrics import EXPERIMENT_COLUMNS, MaskScore, read_table, score_masks
from petct.provenance import save_origin

COLUMNS = [
    *["dataset", "study", "patient", "fold", *EXPERIMENT_COLUMNS],
    *[field.name for field in fields(MaskScore)],
]
# NIfTI stores single precision: what it rounds off is no difference.
GEOMETRY_TOLERANCE_MM = 1e-2
DIRECTION_TOLERANCE = 1e-4


def read_image(path: Path, study: str) -> sitk.Image:
    if not path.is_file():
        raise PetctError(f"study {study}: no image at {path}")
    return load_image(path)


def require_same_grid(study: str, prediction: Path, got: Grid, expected: Grid) -> None:
    """Raise PetctError if the prediction does not lie on the reference's grid."""
    same = (
        got.shape_zyx == expected.shape_zyx
        and np.allclose(got.spacing_xyz_mm, expected.spacing_xyz_mm, 0, DIRECTION_TOLERANCE)
        and np.allclose(got.origin_xyz_mm, expected.origin_xyz_mm, 0, GEOMETRY_TOLERANCE_MM)
        and np.allclose(got.direction, expected.direction, 0, DIRECTION_TOLERANCE)
    )
    if not same:
        raise PetctError(
            f"study {study}: prediction {prediction} lies on {got}, expected the reference's "
            f"{expected}"
        )


def score_study(
    study: str, mask: Path, converted: Path, connectivity: int, surface_tolerance_mm: float
) -> MaskScore:
    """The metrics of one study: its predicted ``mask`` against ``converted``/lesions.nii.gz."""
    reference_image = read_image(converted / "lesions.nii.gz", study)
    predicted_image = read_image(mask, study)
    grid = Grid.from_image(reference_image)
    require_same_grid(study, mask, Grid.from_image(predicted_image), grid)
    suv_image = read_image(converted / "suv.nii.gz", study)
    return score_masks(
        sitk.GetArrayViewFromImage(predicted_image) != 0,
        sitk.GetArrayViewFromImage(reference_image) != 0,
        sitk.GetArrayViewFromImage(suv_image),
        grid.spacing_zyx_mm,
        connectivity,
        surface_tolerance_mm,
    )


def score_studies(
    jobs: list[tuple[str, Path, Path, int, float]], threads: int
) -> Iterator[MaskScore]:
    """``score_study`` of each job, in order, on ``threads`` processes."""
    if threads == 1 or len(jobs) < 2:
        yield from (score_study(*job) for job in jobs)
        return
    # A forked child may inherit a lock that one of ITK's threads holds; a spawned one cannot.
    with ProcessPoolExecutor(min(threads, len(jobs)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(score_study, *zip(*jobs, strict=True))


def score_predictions(
    predictions: Path,
    cohort: Path,
    converted: Path,
    settings: dict[str, Any],
    output: Path,
    threads: int,
) -> None:
    """Write one row per study of the predictions' fold in the cohort table.

    ``settings`` has ``dataset``, the name for the table, ``connectivity`` (6, 18 or 26) and
    ``surface_tolerance_mm``. The columns after the experiment's are those of MaskScore; undefined
    values are written as "nan". Raises PetctError if a study of the fold has no prediction, or one
    on another grid than the reference's.
    """
    manifest = read_json(predictions)
    table = read_table(cohort)
    table = table[table["fold"] == manifest["fold"]].sort_values("study")
    missing = sorted(set(table["study"]) - set(manifest["studies"]))
    if missing:
        raise PetctError(
            f"{predictions}: no prediction for {', '.join(missing)} of fold {manifest['fold']}, "
            f"expected every study of that fold in {cohort}"
        )
    jobs = [
        (
            study,
            predictions.parent / manifest["studies"][study]["mask"],
            converted / study,
            settings["connectivity"],
            settings["surface_tolerance_mm"],
        )
        for study in table["study"]
    ]
    rows = []
    scores = score_studies(jobs, threads)
    for study, patient, score in zip(table["study"], table["patient"], scores, strict=True):
        experiment = {key: manifest[key] for key in ("fold", "strategy", "model", "cohort")}
        names = {"dataset": settings["dataset"], "study": study, "patient": patient}
        rows.append({**names, **experiment, **asdict(score)})
        print(
            f"{study}: Dice {score.dice:.3f}, false positive {score.fp_volume_ml:.2f} mL, "
            f"false negative {score.fn_volume_ml:.2f} mL",
            flush=True,
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows, columns=COLUMNS).to_csv(
        output, sep="\t", index=False, na_rep="nan", float_format="%.10g"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--predictions", type=Path, required=True, help="predictions.json")
    parser.add_argument("--cohort", type=Path, required=True, help="table of studies and folds")
    parser.add_argument("--converted", type=Path, required=True, help="folder of converted studies")
    parser.add_argument(
        "--settings",
        type=json.loads,
        required=True,
        help="JSON: dataset, connectivity, surface_tolerance_mm",
    )
    parser.add_argument("--output", type=Path, required=True, help="table of scores")
    parser.add_argument("--threads", type=int, default=1, help="studies scored at once")
    parser.add_argument("--code", required=True, help="digest of the code")
    arguments = vars(parser.parse_args())
    code = arguments.pop("code")
    score_predictions(**arguments)
    inputs = [arguments["predictions"], arguments["cohort"]]
    save_origin(arguments["output"], "score_predictions", code, arguments["settings"], inputs)


if __name__ == "__main__":
    with exit_on_error():
        main()
