"""Contest: what is learnt in the same time, seen on phantoms of patients that nobody trained on.

The clock ends each contestant's training, after the step in which the budget is spent, and sets its
learning rate: of its own schedule, at the share of the budget that has passed. Imports, planning,
preprocessing and prediction are of nobody's budget. Round n draws by seed n for all. All read the
demo phantom's fine grid; masks are scored there.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from petct.command_line import exit_on_error
from petct.contest import FAST_CPU, ROUND, Contestant, make_parser, report_outcome, run_contest

if TYPE_CHECKING:
    from petct.nnunet_trainer import WorkflowTrainer

# Seconds of training, studies at least to train on.
SIZES = {"full": (80.0, 16), "smoke": (1.0, 2)}
# No budget holds as many.
MOST_STEPS = 100_000
MODEL = "unet_large"
STRATEGY = "one_step"
# Ours less theirs.
BETTER = {"dice": (0.02, math.inf), "fp_ml": (-math.inf, 0.0), "fn_ml": (-math.inf, 0.0)}


def benchmark_budget(inputs: Path, settings: dict[str, Any], output: Path) -> None:
    """Write the contest's table."""
    name = "smoke" if settings["size"] == "smoke" else "demo"
    command = [sys.executable, str(Path(__file__).absolute())]
    command += ["--inputs", str((inputs / name).absolute()), "--settings", json.dumps(settings)]

    def run(contestant: str) -> list[str]:
        return [*command, "--folder", ".", "--contestant", contestant]

    contestants = [
        Contestant(
            "petct", f"{MODEL}, settings of config.yaml", run("petct"), environment=FAST_CPU
        ),
        Contestant(
            "nnU-Net",
            "as it comes: its own plan, SGD; no mirroring",
            run("stock"),
            quality_goals=BETTER,
        ),
        Contestant(
            "nnU-Net",
            "best known: 8 features, our patch, AdamW 0.002, batch Dice, half of it foreground",
            run("best"),
            environment=FAST_CPU,
            quality_goals=BETTER,
        ),
    ]
    if settings["size"] == "smoke":  # one step of its own plan takes seconds
        contestants = [c for c in contestants if not c.settings.startswith("as it comes")]
    table = run_contest(
        "budget", name, "training", contestants, settings["repeats"], output.parent / "runs"
    )
    table.to_csv(output, sep="\t", index=False)


def split_studies(inputs: Path, at_least: int) -> tuple[list[str], list[str]]:
    """Studies to train on and to test on; all of a patient are on one side."""
    table = pd.read_csv(inputs / "studies.tsv", sep="\t").sort_values("study")
    training: list[str] = []
    for _, group in table.groupby("patient", sort=False):
        if len(training) < at_least:
            training += group["study"].tolist()
    return training, [study for study in table["study"] if study not in training]


def compete(contestant: str, inputs: Path, settings: dict[str, Any], folder: Path) -> None:
    """Train in the budget, predict the other studies and report how well."""
    import torch

    torch.set_num_threads(settings["threads"])
    training, testing = split_studies(inputs, SIZES[settings["size"]][1])
    seed = int(os.environ.get(ROUND, "0"))
    compete_as = run_ours if contestant == "petct" else run_nnunet
    seconds, steps, probabilities = compete_as(
        contestant, inputs / "resample_study", training, testing, settings, seed, folder
    )
    report_outcome(
        folder,
        seconds,
        **score(inputs / "resample_study", probabilities),
        trained_s=seconds,
        steps=steps,
        studies=len(testing),
    )


def run_ours(
    contestant: str,
    resampled: Path,
    training: list[str],
    testing: list[str],
    settings: dict[str, Any],
    seed: int,
    folder: Path,
) -> tuple[float, int, dict[str, np.ndarray]]:
    """Seconds of training, steps, and probabilities by study."""
    import torch

    from petct.augmentation import window_to_read
    from petct.devices import choose_precision
    from petct.inference import Windows, hasten_network, predict_probability, read_parts
    from petct.networks import build_network, expect_few_lesions
    from petct.sources import open_sources
    from petct.training import train

    model, strategy = settings["models"][MODEL], settings["strategies"][STRATEGY]
    z, y, x = model.get("patch_zyx", strategy["patch_zyx"])
    patch = (z, y, x)
    chosen = {
        **settings["training"], **strategy.get("training", {}), **model.get("training", {}),
        "epochs": 1, "restart_epochs": 1, "steps_per_epoch": MOST_STEPS,
    }  # fmt: skip
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    window = window_to_read(patch, chosen["augmentation"])
    sources = list(
        open_sources(training, resampled, strategy, [], [], window, for_training=True).values()
    )

    network = build_network(model["network"], model["arguments"], 2, patch, seed=seed)
    expect_few_lesions(network, chosen["initial_probability"])
    steps, start = -1, 0.0

    def passed() -> float:
        nonlocal steps, start
        steps += 1
        # The first batch is drawn then, as the peer's are.
        start = start or time.perf_counter()
        return (time.perf_counter() - start) / SIZES[settings["size"]][0]

    train(
        network, sources, [], patch, chosen, seed, device, lambda row: None, folder / "trained", "",
        passed=passed,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    inference = settings["inference"]
    windows = Windows(
        size_zyx=patch,
        overlap=inference["overlap"],
        mirrored_axes=tuple(inference["mirroring"]),
        per_batch=inference["windows_per_batch"],
        precision=choose_precision(chosen["precision"], device),
    )
    network = hasten_network(network, device)
    found = {}
    opened = open_sources(testing, resampled, strategy, [], [], patch, for_training=False)
    for study, source in opened.items():
        parts = read_parts(source, windows)
        found[study] = predict_probability(network, parts, source, windows, device)
    return seconds, steps, found


def timed_trainer(budget_s: float) -> type[WorkflowTrainer]:
    """nnU-Net's trainer, of steps alone, until the clock ends it.

    Its learning rate is that of its schedule, (1 - share of the budget) ** 0.9 of the first one. It
    is spared its looks at validation patches. The first batches are drawn before the clock starts.
    """
    from petct.nnunet_trainer import WorkflowTrainer

    class TimedTrainer(WorkflowTrainer):
        def run_training(self) -> None:
            self.on_train_start()
            self.seed_epoch()
            self.network.train()
            self.steps, start = 0, time.perf_counter()
            while (share := (time.perf_counter() - start) / budget_s) < 1.0:
                for group in self.optimizer.param_groups:
                    group["lr"] = self.initial_lr * (1.0 - share) ** 0.9
                self.train_step(next(self.dataloader_train))
                self.steps += 1
            self.seconds = time.perf_counter() - start
            self.on_train_end()
            self.best = self.last

        def list_history(self) -> list[dict[str, float]]:
            return [{"epoch": 1, "steps": self.steps, "seconds": self.seconds}]

    return TimedTrainer


def run_nnunet(
    contestant: str,
    resampled: Path,
    training: list[str],
    testing: list[str],
    settings: dict[str, Any],
    seed: int,
    folder: Path,
) -> tuple[float, int, dict[str, np.ndarray]]:
    """The same by nnU-Net; planning and preprocessing are not of the budget."""
    import torch

    from petct.nnunet import plan
    from petct.nnunet_cases import list_cases
    from petct.nnunet_prediction import open_network, predict_cases, prepare_case
    from petct.nnunet_training import train

    strategy, threads = settings["strategies"][STRATEGY], settings["threads"]
    best = contestant.endswith("best")
    arguments: dict[str, Any] = {"planner": "ExperimentPlanner", "suv_normalisation": "CT"}
    chosen: dict[str, Any] = {}
    if best:
        arguments |= {
            "patch": "strategy", "base_features": 8, "batch_size": 4, "batch_dice": True,
        }  # fmt: skip
        chosen |= {"optimiser": "adamw", "learning_rate": 0.002, "lesion_share": 0.5}
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cases = list_cases(training, resampled, strategy, [], [], for_training=True)
    plans, dataset, fingerprint = plan(cases, strategy, arguments, folder / "plan", threads)
    result = train(
        cases, {}, plans, dataset, fingerprint, chosen, seed, device, folder / "trained", "trained",
        threads, timed_trainer(SIZES[settings["size"]][0]),
    )  # fmt: skip
    # Stock nnU-Net looks half a window further each time, and at all reflections, which is left
    # out: eight times as long for what is of no budget, and none of us does it.
    inference = settings["inference"]
    looks: dict[str, Any] = {"windows_per_batch": inference["windows_per_batch"]}
    looks |= {"mirroring": False} | ({"overlap": inference["overlap"]} if best else {})
    network, windows = open_network(plans, dataset, result.last, looks, device)
    found = {}
    for case in list_cases(testing, resampled, strategy, [], [], for_training=False).values():
        shape = np.load(resampled / case.study / strategy["grid"] / "label.npy", "r").shape
        prepared = [prepare_case(case, plans, dataset)]
        found[case.study] = predict_cases(network, windows, prepared, plans, dataset, shape, device)
    done = result.history[-1]
    return done["seconds"], int(done["steps"]), found


def score(resampled: Path, probabilities: dict[str, np.ndarray]) -> dict[str, float]:
    """Mean Dice and missed volume over studies with lesions, mean false volume over all."""
    from petct.arrays import open_arrays
    from petct.metrics import score_masks

    scores = []
    for study, probability in probabilities.items():
        arrays = open_arrays(resampled / study / "fine")
        reference, suv = arrays.label > 0, np.expm1(arrays.image[1].astype(np.float32))
        spacing = arrays.grid.spacing_zyx_mm
        scores.append(score_masks(probability > 0.5, reference, suv, spacing, 18, 6.0))
    positive = [s for s in scores if s.positive]
    return {
        "dice": float(np.mean([s.dice for s in positive])),
        "fp_ml": float(np.mean([s.fp_volume_ml for s in scores])),
        "fn_ml": float(np.mean([s.fn_volume_ml for s in positive])),
        "positives": len(positive),
    }


def main() -> None:
    parser = make_parser(__doc__)
    given = parser.parse_args()
    if given.contestant:
        compete(given.contestant, given.inputs, given.settings, given.folder)
    else:
        benchmark_budget(given.inputs, given.settings, given.output)


if __name__ == "__main__":
    with exit_on_error():
        main()
