"""Contest: a coarse look first and a fine one inside its boxes, against the fine one everywhere.

From the training format to a mask on the PET's grid. Both take the same fine network, trained here
for minutes on the whole body, so that they differ in nothing but where it looks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import SimpleITK as sitk

from petct.command_line import exit_on_error
from petct.contest import FAST_CPU, Contestant, make_parser, report_outcome, run_contest
from petct.errors import PetctError
from petct.manifests import read_json, write_json

# The fine grid is that of the PET, as in the settings for AutoPET.
GRIDS = {
    "coarse": {"spacing_zyx_mm": [8.0, 8.0, 8.0]},
    "fine": {"spacing_zyx_mm": [3.0, 2.036, 2.036]},
}
PATCHES = {"coarse": [32, 32, 32], "fine": [32, 48, 48]}
GRIDS_SMOKE = {
    "coarse": {"spacing_zyx_mm": [16.0, 16.0, 16.0]},
    "fine": {"spacing_zyx_mm": [8.0, 8.0, 8.0]},
}
PATCHES_SMOKE = {"coarse": [16, 16, 16], "fine": [16, 16, 16]}
ARGUMENTS = {"channels": [16, 32, 64, 128], "strides": [2, 2, 2], "num_res_units": 1}
ARGUMENTS_SMOKE = {"channels": [4, 8], "strides": [2], "num_res_units": 0}
TRAINING = {"epochs": 8, "steps_per_epoch": 100, "batch_size": 4, "validation_share": 0.0}
TRAINING_SMOKE = {"epochs": 1, "steps_per_epoch": 2, "batch_size": 2, "validation_share": 0.0}
HEADER = "study\tpatient\tpositive\tfold\ttrains\tlesion_ml\tdigest"


def train_on_phantoms(inputs: Path, settings: dict[str, Any], folder: Path) -> None:
    """Train ``coarse/model.json`` and ``fine/model.json``; ``boxes/`` is the latter in boxes.

    On studies of clinical size, but for the first, whose patient is tested. ``test.tsv`` lists it.
    """
    from petct.trained_models import digest_file
    from resample_study import resample_study
    from train_network import train_network

    smoke = settings["size"] == "smoke"
    studies = sorted((inputs / ("smoke" if smoke else "clinical") / "convert_study").iterdir())
    grids = GRIDS_SMOKE if smoke else GRIDS
    rows: list[str] = []
    for study in studies:
        resampled = folder / f"resample_study/{study.name}/study.json"
        resample_study(
            study / "study.json", settings["preprocessing"] | {"grids": grids}, resampled
        )
        told = read_json(resampled)
        rows.append(
            f"{study.name}\t{told['patient']}\t{told['positive']}\t{1 if rows else 0}\tTrue"
            f"\t{told['lesion_ml']}\t{told['digest']}"
        )
    test, train = folder / "test.tsv", folder / "train.tsv"
    test.write_text("\n".join([HEADER, *rows[:1]]) + "\n")
    train.write_text("\n".join([HEADER, *rows[1:]]) + "\n")
    for grid, patch in (PATCHES_SMOKE if smoke else PATCHES).items():
        strategy = {
            "grid": grid, "regions": "body", "coarse": None, "prior": False, "patch_zyx": patch,
        }  # fmt: skip
        chosen = {
            "experiment": {"strategy": grid, "model": "unet", "cohort": "all"},
            "strategy": strategy, "network": "UNet",
            "arguments": ARGUMENTS_SMOKE if smoke else ARGUMENTS,
            "training": settings["training"] | (TRAINING_SMOKE if smoke else TRAINING),
            "seed": 1,
        }  # fmt: skip
        model = folder / grid / "model.json"
        code = digest_file(Path(__file__))
        train_network(
            train, [], [], folder / "resample_study", 0, chosen, settings["threads"], code, model
        )
    inside = folder / "boxes"
    inside.mkdir(exist_ok=True)
    fine = read_json(folder / "fine/model.json")
    fine["strategy"] |= {"regions": "boxes", "coarse": "coarse"}
    write_json(inside / "model.json", fine)
    for name in ("last", "best"):
        weights = (folder / f"fine/{name}.safetensors").read_bytes()
        (inside / f"{name}.safetensors").write_bytes(weights)


def predict(work: Path, who: str, settings: dict[str, Any]) -> tuple[Path, dict[str, float]]:
    """The folder of fine predictions, and how many boxes they were made in."""
    from locate_regions import locate_regions
    from predict_network import predict_network

    test, resampled = work / "test.tsv", work / "resample_study"
    shared = (settings["inference"], settings["threads"], "benchmark")
    fine = Path("fine/predictions.json")
    if who == "one_step":
        predict_network(test, work / "fine/model.json", [], [], resampled, *shared, fine)
        return fine, {}
    coarse, regions = Path("coarse/predictions.json"), Path("regions.json")
    predict_network(test, work / "coarse/model.json", [], [], resampled, *shared, coarse)
    chosen = settings["regions"] | {"grid": "fine"}
    locate_regions(test, coarse, resampled, chosen, regions, Path("regions.tsv"))
    predict_network(test, work / "boxes/model.json", [], [regions], resampled, *shared, fine)
    row = pd.read_csv("regions.tsv", sep="\t").iloc[0]
    boxes = {"boxes": float(row["boxes"]), "boxes_share": row["boxes_ml"] / row["body_ml"]}
    return fine, boxes


def compete(who: str, truth: Path, work: Path, settings: dict[str, Any], folder: Path) -> None:
    """Be one contestant, in the current folder; ``truth`` is a mask on the PET's grid."""
    import torch

    # Imports are start-up, not work.
    import locate_regions
    import predict_network

    del locate_regions, predict_network
    if who not in ("one_step", "two_step"):
        raise PetctError(f"contestant {who}: nobody of that name")
    torch.set_num_threads(settings["threads"])
    start = time.perf_counter()
    predictions, boxes = predict(work, who, settings)
    seconds = time.perf_counter() - start
    (entry,) = read_json(predictions)["studies"].values()
    masks = (predictions.parent / entry["mask"], truth)
    found, lesions = (sitk.GetArrayFromImage(sitk.ReadImage(str(path))) > 0 for path in masks)
    dice = 2 * float((found & lesions).sum()) / max(float(found.sum() + lesions.sum()), 1.0)
    report_outcome(folder, seconds, 1.0, dice=dice, **boxes)


def benchmark_two_step(inputs: Path, settings: dict[str, Any], output: Path) -> None:
    """Write the contest's table.

    ``settings``: size, repeats, threads and, of the config, ``inference``, ``training``,
    ``regions`` and ``preprocessing``.
    """
    smoke = settings["size"] == "smoke"
    size = "smoke" if smoke else "clinical"
    work = output.parent.absolute() / "networks"
    work.mkdir(parents=True, exist_ok=True)
    inputs = inputs.absolute()
    train = [sys.executable, str(Path(__file__).absolute()), "--settings", json.dumps(settings)]
    train += ["--contestant", "train", "--inputs", str(inputs), "--work", str(work)]
    subprocess.run(train, env=os.environ | FAST_CPU, check=True)
    study = sorted((inputs / size / "convert_study").iterdir())[0]

    def contestant(setting: str, key: str, **goals: Any) -> Contestant:
        command = [sys.executable, str(Path(__file__).absolute()), "--contestant", key]
        command += ["--truth", str(study / "lesions.nii.gz"), "--work", str(work)]
        command += ["--folder", ".", "--settings", json.dumps(settings)]
        return Contestant("petct", setting, command, environment=FAST_CPU, **goals)

    higher: dict[str, Any] = {} if smoke else {"quality_goals": {"dice": (0.0, float("inf"))}}
    contestants = [
        contestant("two steps: 8 mm, then 3 x 2 x 2 mm in boxes", "two_step"),
        contestant("one step: 3 x 2 x 2 mm, same network", "one_step", goal=6.0, **higher),
    ]
    table = run_contest(
        "two_step", size, "study", contestants, settings["repeats"], output.parent / "contest"
    )
    table.to_csv(output, sep="\t", index=False)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--truth", type=Path, help="mask of the lesions")
    parser.add_argument("--work", type=Path, help="folder with the trained networks")
    given = parser.parse_args()
    if given.contestant == "train":
        train_on_phantoms(given.inputs, given.settings, given.work)
    elif given.contestant:
        compete(given.contestant, given.truth, given.work, given.settings, given.folder)
    else:
        benchmark_two_step(given.inputs, given.settings, given.output)


if __name__ == "__main__":
    with exit_on_error():
        main()
