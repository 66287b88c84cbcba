"""Contest: a whole body through one nnU-Net network, from images to a mask on their grid.

The same weights for all, trained here for minutes. Ours begins at SUV and CT as convert_study
writes them; nnU-Net's predictor at the network's two channels as NIfTI, whole as they come.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import SimpleITK as sitk

from petct.command_line import exit_on_error
from petct.contest import FAST_CPU, Contestant, make_parser, report_outcome, run_contest
from petct.errors import PetctError
from petct.manifests import read_json, write_json

STRATEGY = {"grid": "fine", "regions": "body", "coarse": None, "prior": False}
ARGUMENTS = {
    "planner": "ExperimentPlanner", "suv_normalisation": "CT", "patch": "strategy",
    "base_features": 8, "batch_size": 2, "batch_dice": True,
}  # fmt: skip
TRAINING = {
    "epochs": 8, "steps_per_epoch": 120, "validation_steps": 2, "optimiser": "adamw",
    "learning_rate": 0.002, "lesion_share": 0.5, "validation_share": 0.0,
}  # fmt: skip
# Peer's settings: resampling of its plan, and whether it is arranged for a CPU; BODY is TORCH on
# the body's box, which is ours to find.
STOCK, TORCH, BODY = "stock", "torch", "body"
# Ours: overlap and mirrored axes.
OURS: dict[str, tuple[float, list[int]]] = {
    "half": (0.5, []),
    "quarter": (0.25, []),
    "none": (0.0, []),
    "half_mirrored": (0.5, [0, 1, 2]),
}


def train_on_phantoms(inputs: Path, settings: dict[str, Any], folder: Path) -> None:
    """Plan and train the network on all studies but the first, whose patient is tested."""
    from petct.trained_models import digest_file
    from plan_nnunet import plan_nnunet
    from resample_study import resample_study
    from train_nnunet import train_nnunet

    smoke = settings["size"] == "smoke"
    patch = [16, 16, 16] if smoke else [64, 64, 64]
    strategy = STRATEGY | {"patch_zyx": patch}
    arguments = ARGUMENTS | ({"base_features": 4} if smoke else {})
    training = TRAINING | ({"epochs": 1, "steps_per_epoch": 2} if smoke else {})
    studies = sorted((inputs / ("smoke" if smoke else "clinical") / "convert_study").iterdir())
    rows = ["study\tpatient\tpositive\tfold\ttrains\tlesion_ml\tdigest"]
    for study in studies:
        resampled = folder / f"resample_study/{study.name}/study.json"
        resample_study(study / "study.json", fine_only(settings), resampled)
        told = read_json(resampled)
        held_out = study == studies[0]
        rows.append(
            f"{study.name}\t{told['patient']}\t{told['positive']}\t{0 if held_out else 1}\tTrue"
            f"\t{told['lesion_ml']}\t{told['digest']}"
        )
    test = folder / "test.tsv"
    test.write_text("\n".join(rows[:2]) + "\n")
    train = folder / "train.tsv"
    train.write_text("\n".join([rows[0], *rows[2:]]) + "\n")
    chosen = {
        "experiment": {"strategy": "one_step", "model": "nnunet", "cohort": "all"},
        "strategy": strategy, "network": "nnUNet", "arguments": arguments, "training": training,
        "seed": 1,
    }  # fmt: skip
    plans = folder / "plan/plans.json"
    plan_nnunet(train, [], [], folder / "resample_study", 0, chosen, 1, plans)
    code = digest_file(Path(__file__))
    train_nnunet(
        train, plans, [], [], folder / "resample_study", 0, chosen, settings["threads"], code,
        folder / "model/model.json",
    )  # fmt: skip


def fine_only(settings: dict[str, Any]) -> dict[str, Any]:
    preprocessing: dict[str, Any] = settings["preprocessing"]
    return preprocessing | {"grids": {"fine": preprocessing["grids"]["fine"]}}


def write_channels(study: Path, work: Path, preprocessing: dict[str, Any]) -> None:
    """The channels that the network knows, on the PET's grid, as nnU-Net would be given them.

    Whole to ``channels``, and the body's box of them to ``channels_body``.
    """
    from petct.arrays import normalise_ct, transform_suv

    body = read_json(work / "resample_study" / study.name / "study.json")
    sides = zip(body["body_start_zyx"], body["body_stop_zyx"], strict=True)
    z, y, x = (slice(start, stop) for start, stop in sides)
    for name in ("channels", "channels_body"):
        (work / name).mkdir(parents=True, exist_ok=True)
    suv, ct_hu = (sitk.ReadImage(str(study / f"{name}.nii.gz")) for name in ("suv", "ct"))
    limit_hu, transform = preprocessing["ct_limit_hu"], preprocessing["suv_transform"]
    channels = [
        normalise_ct(sitk.GetArrayFromImage(ct_hu).astype(np.float32), limit_hu),
        transform_suv(sitk.GetArrayFromImage(suv), transform),
    ]
    for number, channel in enumerate(channels):
        image = sitk.GetImageFromArray(channel.astype(np.float32))
        image.CopyInformation(suv)
        for name, part in (("channels", image), ("channels_body", image[x, y, z])):
            sitk.WriteImage(part, str(work / name / f"case_{number:04d}.nii.gz"))


def predict_with_ours(who: str, study: Path, folder: Path, settings: dict[str, Any]) -> float:
    """Seconds; the mask goes to mask.nii.gz of the current folder."""
    from predict_nnunet import predict_nnunet
    from resample_study import resample_study

    overlap, mirroring = OURS[who]
    chosen = {
        "threshold": 0.5, "checkpoint": "last", "overlap": overlap, "mirroring": mirroring,
        "windows_per_batch": settings["inference"]["windows_per_batch"],
    }  # fmt: skip
    start = time.perf_counter()
    resampled = Path("resample_study").absolute()
    resample_study(study / "study.json", fine_only(settings), resampled / study.name / "study.json")
    predict_nnunet(
        folder / "test.tsv", folder / "model/model.json", folder / "plan/plans.json", [], [],
        resampled, chosen, settings["threads"], "benchmark", Path("out/predictions.json"),
    )  # fmt: skip
    seconds = time.perf_counter() - start
    Path(f"out/{study.name}/lesions.nii.gz").rename("mask.nii.gz")
    return seconds


def predict_with_nnunet(who: str, folder: Path, settings: dict[str, Any]) -> float:
    """Seconds; the mask goes to mask.nii.gz of the current folder."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from petct.nnunet import CONFIGURATION, build_from_plans, read_plans
    from petct.trained_models import load_weights

    torch.set_num_threads(settings["threads"])
    best = who in (TORCH, BODY)
    plans, dataset, _ = read_plans(folder / "plan")
    plans |= {"image_reader_writer": "SimpleITKIO"}
    dataset |= {"file_ending": ".nii.gz"}
    if best:
        for kind in ("data", "seg", "probabilities"):
            plans["configurations"][CONFIGURATION] |= {
                f"resampling_fn_{kind}": "resample_torch_fornnunet",
                f"resampling_fn_{kind}_kwargs": {
                    "is_seg": kind == "seg", "force_separate_z": False,
                    "memefficient_seg_resampling": False,
                },
            }  # fmt: skip
    weights = load_weights(folder / "model/model.json", "last")
    network = build_from_plans(plans, dataset, deep_supervision=False)
    network.load_state_dict(weights)
    gpu = torch.cuda.is_available()
    if best and not gpu:
        network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    predictor = nnUNetPredictor(
        tile_step_size=0.5, use_mirroring=False, allow_tqdm=False, verbose=False,
        device=torch.device("cuda" if gpu else "cpu"),
    )  # fmt: skip
    manager = PlansManager(plans)
    predictor.manual_initialization(
        network, manager, manager.get_configuration(CONFIGURATION), [weights], dataset,
        "nnUNetTrainer", None,
    )  # fmt: skip
    if best and not gpu:
        convolve = predictor.network.forward
        # A CPU convolves two windows in less time than one.
        predictor.network.forward = lambda x: convolve(torch.cat([x, x]))[:1]
    output = [str(Path("mask").absolute())]
    channels = folder / ("channels_body" if who == BODY else "channels")
    images = [[str(channels / f"case_{number:04d}.nii.gz") for number in range(2)]]
    start = time.perf_counter()
    if best:
        predictor.predict_from_files_sequential(images, output)
    else:
        predictor.predict_from_files(
            images, output, num_processes_preprocessing=3, num_processes_segmentation_export=3
        )
    return time.perf_counter() - start


def compete(who: str, study: Path, work: Path, settings: dict[str, Any], folder: Path) -> None:
    """Be one contestant, in the current folder."""
    if who in OURS:
        seconds = predict_with_ours(who, study, work, settings)
    elif who in (STOCK, TORCH, BODY):
        seconds = predict_with_nnunet(who, work, settings)
    else:
        raise PetctError(f"contestant {who}: nobody of that name")
    masks = (Path("mask.nii.gz"), study / "lesions.nii.gz")
    mask, lesions = (sitk.ReadImage(str(path)) for path in masks)
    # The body's box back in its place: its voxels are those of the whole.
    mask = sitk.Resample(mask, lesions, sitk.Transform(), sitk.sitkNearestNeighbor)
    found, truth = (sitk.GetArrayFromImage(image) > 0 for image in (mask, lesions))
    # An overlap of nothing with something is no figure to compare by: found_voxels tells.
    dice = 2 * float((found & truth).sum()) / max(float(found.sum() + truth.sum()), 1.0)
    report_outcome(folder, seconds, 1.0, dice=dice, found_voxels=float(found.sum()))


def benchmark_inference(inputs: Path, settings: dict[str, Any], output: Path) -> None:
    """Write the contest's table.

    ``settings``: size, repeats, threads and, of the config, ``inference`` and ``preprocessing``
    with the grids of the studies.
    """
    smoke = settings["size"] == "smoke"
    size = "smoke" if smoke else "clinical"
    work = output.parent.absolute() / "network"
    study = sorted((inputs.absolute() / size / "convert_study").iterdir())[0]
    work.mkdir(parents=True, exist_ok=True)
    train = [sys.executable, str(Path(__file__).absolute()), "--settings", json.dumps(settings)]
    train += ["--contestant", "train", "--inputs", str(inputs.absolute()), "--work", str(work)]
    subprocess.run(train, env=os.environ | FAST_CPU, check=True)
    write_channels(study, work, settings["preprocessing"])
    write_json(work / "settings.json", settings)

    def contestant(who: str, key: str, setting: str, fast: bool = True, **goals: Any) -> Contestant:
        command = [sys.executable, str(Path(__file__).absolute()), "--contestant", key]
        command += ["--study", str(study), "--work", str(work), "--folder", "."]
        command += ["--settings", json.dumps(settings)]
        return Contestant(who, setting, command, environment=FAST_CPU if fast else {}, **goals)

    equal: dict[str, Any] = {} if smoke else {"quality_goals": {"dice": (-0.002, 0.002)}}
    best = "best known: torch resampling, no worker processes, fast layout, its window twice"
    contestants = [
        contestant("petct", "half", "overlap 0.5"),
        contestant("nnU-Net", TORCH, best, goal=6.0, **equal),
        contestant("petct", "quarter", "overlap 0.25"),
    ]
    if not smoke:
        stock = "as it comes, no mirroring"
        contestants += [
            contestant("nnU-Net", BODY, f"{best}; on the body's box, which we found", **equal),
            contestant("nnU-Net", STOCK, stock, fast=False, goal=10.0, **equal),
            contestant("petct", "none", "overlap 0"),
            contestant("petct", "half_mirrored", "overlap 0.5, mirrored along all axes"),
        ]
    table = run_contest(
        "inference", size, "study", contestants, settings["repeats"], output.parent / "contest"
    )
    pd.DataFrame(table).to_csv(output, sep="\t", index=False)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--study", type=Path, help="folder of convert_study")
    parser.add_argument("--work", type=Path, help="folder with the trained network")
    given = parser.parse_args()
    if given.contestant == "train":
        train_on_phantoms(given.inputs, given.settings, given.work)
    elif given.contestant:
        compete(given.contestant, given.study, given.work, given.settings, given.folder)
    else:
        benchmark_inference(given.inputs, given.settings, given.output)


if __name__ == "__main__":
    with exit_on_error():
        main()
