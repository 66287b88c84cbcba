"""Contest: training steps of one network on the same patches, loading and augmentation included.

The network is the one that nnU-Net plans for the patch. nnU-Net trains it by its own trainer, with
deep supervision (losses at lower resolutions too, which is part of how it trains) and SGD; ours is
the loop of train_network, with the loss at full resolution and Adam. All read the same studies, in
batches of two, and use all cores.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd

from petct.contest import FAST_CPU, Contestant, make_parser, report_outcome, run_contest
from petct.manifests import read_json, write_json

# Side of the patch, features of the first stage, studies, steps measured, steps before these.
SIZES = {"full": (64, 16, 8, 16, 4), "smoke": (16, 4, 3, 2, 1)}


def benchmark_steps(inputs: Path, settings: dict[str, Any], output: Path) -> None:
    """Plan the network, then write the contest's table."""
    name = "smoke" if settings["size"] == "smoke" else "demo"
    folder = output.parent.absolute()
    plan_for(inputs / name, settings, folder / "plan")
    command = [sys.executable, str(Path(__file__).absolute())]
    command += ["--inputs", str((inputs / name).absolute())]
    command += ["--plan", str(folder / "plan"), "--settings", json.dumps(settings)]

    def run(contestant: str) -> list[str]:
        return [*command, "--folder", ".", "--contestant", contestant]

    contestants = [
        Contestant(
            "petct",
            "one head, Adam; memory kept by the process",
            run("petct"),
            environment=FAST_CPU,
        ),
        Contestant(
            "nnU-Net",
            "as it comes: deep supervision, SGD, augmentation in processes",
            run("stock"),
            3.0,
        ),
        Contestant(
            "nnU-Net",
            "best known: the same, channels last, one augmenting process, memory kept",
            run("best"),
            1.5,
            environment=FAST_CPU,
        ),
    ]
    if settings["size"] == "smoke":
        contestants = contestants[:2]
    repeats = settings["repeats"]
    table = run_contest("steps", name, "step", contestants, repeats, folder / "runs")
    table.to_csv(output, sep="\t", index=False)


def choose_studies(inputs: Path, settings: dict[str, Any]) -> list[str]:
    studies = pd.read_csv(inputs / "studies.tsv", sep="\t").sort_values("study")
    names: list[str] = studies["study"].tolist()
    return names[: SIZES[settings["size"]][2]]


def strategy_of(settings: dict[str, Any]) -> dict[str, Any]:
    side = SIZES[settings["size"]][0]
    return {
        "grid": "fine", "regions": "body", "coarse": None, "prior": False,
        "patch_zyx": [side] * 3,
    }  # fmt: skip


def plan_for(inputs: Path, settings: dict[str, Any], folder: Path) -> None:
    """nnU-Net's plan and preprocessed cases of the studies, once for all contestants."""
    from petct.nnunet import claim_folder, plan
    from petct.nnunet_cases import list_cases
    from petct.nnunet_preprocessing import preprocess

    strategy, threads = strategy_of(settings), settings["threads"]
    cases = list_cases(
        choose_studies(inputs, settings), inputs / "resample_study", strategy, [], [],
        for_training=True,
    )  # fmt: skip
    arguments = {
        "planner": "ExperimentPlanner", "suv_normalisation": "CT", "patch": "strategy",
        "base_features": SIZES[settings["size"]][1], "batch_size": 2,
    }  # fmt: skip
    claim_folder(folder, "")
    plans, dataset, fingerprint = plan(cases, strategy, arguments, folder / "work", threads)
    preprocess(cases, plans, dataset, folder, threads)
    split = [{"train": sorted(cases), "val": sorted(cases)}]
    preprocessed = folder / "preprocessed" / plans["dataset_name"]
    write_json(preprocessed / "splits_final.json", split)
    write_json(preprocessed / "dataset_fingerprint.json", fingerprint)
    for name, value in (("plans", plans), ("dataset", dataset)):
        write_json(folder / f"{name}.json", value)


def compete(
    contestant: str, inputs: Path, plan: Path, settings: dict[str, Any], folder: Path
) -> None:
    import torch

    torch.set_num_threads(settings["threads"])
    plans, dataset = (read_json(plan / f"{name}.json") for name in ("plans", "dataset"))
    if contestant == "petct":
        ends, losses = train_ours(inputs, plans, dataset, settings, folder)
    else:
        ends, losses = train_nnunet(plan, plans, dataset, settings, contestant == "best")
    before = SIZES[settings["size"]][4]
    report_outcome(folder, ends[-1] - ends[before - 1], len(ends) - before, last_loss=losses[-1])


def train_ours(
    inputs: Path,
    plans: dict[str, Any],
    dataset: dict[str, Any],
    settings: dict[str, Any],
    folder: Path,
) -> tuple[list[float], list[float]]:
    """When each step ended, and the epoch's loss."""
    import torch

    from petct.augmentation import window_to_read
    from petct.nnunet import build_from_plans
    from petct.sources import open_sources
    from petct.training import train

    class OneHead(torch.nn.Module):
        """The planned network's lesion less background: the logit of two classes."""

        def __init__(self) -> None:
            super().__init__()
            self.network = build_from_plans(plans, dataset, deep_supervision=False)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            both: torch.Tensor = self.network(images)
            ends.append(time.perf_counter())
            return both[:, 1:] - both[:, :1]

    side, _, _, steps, before = SIZES[settings["size"]]
    training = settings["training"] | {
        "epochs": 1, "steps_per_epoch": before + steps + 1, "batch_size": 2,
        "restart_epochs": 1, "learning_rate": 1e-3,
    }  # fmt: skip
    patch = (side, side, side)
    sources = open_sources(
        choose_studies(inputs, settings), inputs / "resample_study", strategy_of(settings),
        [], [], window_to_read(patch, training["augmentation"]), for_training=True,
    )  # fmt: skip
    # A step ends where the next one's forward pass ends: as many whole steps lie in between.
    ends: list[float] = []
    result = train(
        OneHead(), list(sources.values()), [], patch, training, 0,
        torch.device("cuda" if torch.cuda.is_available() else "cpu"),
        lambda row: None, folder / "state", "",
    )  # fmt: skip
    return ends[:-1], [row["train_loss"] for row in result.history]


def train_nnunet(
    plan: Path, plans: dict[str, Any], dataset: dict[str, Any], settings: dict[str, Any], best: bool
) -> tuple[list[float], list[float]]:
    """The same by nnU-Net's own trainer; only its processes are told how many they are."""
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from petct.nnunet import CONFIGURATION

    _, _, _, steps, before = SIZES[settings["size"]]
    os.environ |= {
        **({"nnUNet_n_proc_DA": "1"} if best else {}),
        "nnUNet_raw": str(plan / "raw"),
        "nnUNet_preprocessed": str(plan / "preprocessed"),
        "nnUNet_results": str(Path.cwd() / "results"),
        "nnUNet_compile": "0",  # on a CPU it does not compile by itself either
    }
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    trainer = nnUNetTrainer(
        plans={**plans, "continue_training": False}, configuration=CONFIGURATION, fold=0,
        dataset_json=dataset, device=device,
    )  # fmt: skip
    trainer.plot_network_architecture = lambda: None
    trainer.on_train_start()
    if best:
        trainer.network.to(memory_format=torch.channels_last_3d)
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    ends, losses = [], []
    for _ in range(before + steps):
        outcome = trainer.train_step(next(trainer.dataloader_train))
        losses.append(float(outcome["loss"]))
        ends.append(time.perf_counter())
    for loader in (trainer.dataloader_train, trainer.dataloader_val):
        if hasattr(loader, "_finish"):
            loader._finish()
    return ends, losses


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--plan", type=Path)
    given = parser.parse_args()
    if given.contestant:
        compete(given.contestant, given.inputs, given.plan, given.settings, given.folder)
    else:
        benchmark_steps(given.inputs, given.settings, given.output)


if __name__ == "__main__":
    from petct.command_line import exit_on_error

    with exit_on_error():
        main()
