"""Contest: what is learnt in the same time, seen on phantoms of patients that nobody trained on.

Each contestant measures how long its steps take, then trains as many as the budget holds, with a
schedule that ends with it. All read the demo phantom's fine grid; masks are scored there.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from petct.command_line import exit_on_error
from petct.contest import FAST_CPU, Contestant, make_parser, report_outcome, run_contest
from petct.manifests import read_json, write_json

# Seconds of training, studies at least to train on, epochs, steps to measure.
SIZES = {"full": (120.0, 16, 10, 6), "smoke": (1.0, 2, 2, 2)}
MODEL = "unet_large"
STRATEGY = "one_step"
# Ours less theirs.
BETTER = {"dice": (0.02, math.inf), "fp_ml": (-math.inf, 0.0), "fn_ml": (-math.inf, 0.0)}
# Before a contestant's name: only measure its steps.
MEASURE = "measure-"


def benchmark_budget(inputs: Path, settings: dict[str, Any], output: Path) -> None:
    """Write the contest's table. One round of it: each takes as long as the budget."""
    name = "smoke" if settings["size"] == "smoke" else "demo"
    command = [sys.executable, str(Path(__file__).absolute())]
    command += ["--inputs", str((inputs / name).absolute()), "--settings", json.dumps(settings)]

    def run(contestant: str) -> list[str]:
        return [*command, "--folder", ".", "--contestant", contestant]

    contestants = [
        Contestant(
            "petct", f"{MODEL}, settings of config.yaml", run("petct"), environment=FAST_CPU
        ),
        Contestant("nnU-Net", "as it comes: its own plan, SGD", run("stock"), quality_goals=BETTER),
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
    table = run_contest("budget", name, "training", contestants, 1, output.parent / "runs")
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
    compete_as = run_ours if contestant == "petct" else run_nnunet
    seconds, steps, probabilities = compete_as(
        contestant, inputs / "resample_study", training, testing, settings, folder
    )
    if not probabilities:
        return
    report_outcome(
        folder,
        seconds,
        **score(inputs / "resample_study", probabilities),
        steps=steps,
        studies=len(testing),
    )


def count_steps(step_s: float, settings: dict[str, Any]) -> int:
    """Steps of an epoch, so that all epochs fill the budget."""
    budget_s, _, epochs, _ = SIZES[settings["size"]]
    return max(1, int(budget_s / step_s / epochs))


def run_ours(
    contestant: str,
    resampled: Path,
    training: list[str],
    testing: list[str],
    settings: dict[str, Any],
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
    _, _, epochs, measured = SIZES[settings["size"]]
    chosen = {
        **settings["training"], **strategy.get("training", {}), **model.get("training", {}),
        "epochs": epochs, "restart_epochs": epochs,
    }  # fmt: skip
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    window = window_to_read(patch, chosen["augmentation"])
    sources = list(
        open_sources(training, resampled, strategy, [], [], window, for_training=True).values()
    )

    def learn(what: dict[str, Any], name: str) -> tuple[torch.nn.Module, float, float]:
        network = build_network(model["network"], model["arguments"], 2, patch, seed=0)
        expect_few_lesions(network, chosen["initial_probability"])
        start = time.perf_counter()
        result = train(
            network, sources, [], patch, what, 0, device, lambda row: None, folder / name, ""
        )
        return network, time.perf_counter() - start, result.history[-1]["seconds"]

    few = chosen | {"epochs": 2, "steps_per_epoch": measured}
    steps = count_steps(learn(few, "measured")[2] / measured, settings)
    network, seconds, _ = learn(chosen | {"steps_per_epoch": steps}, "trained")
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
    return seconds, steps * epochs, found


def run_nnunet(
    contestant: str,
    resampled: Path,
    training: list[str],
    testing: list[str],
    settings: dict[str, Any],
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
    chosen: dict[str, Any] = {"validation_steps": 1}
    if best:
        arguments |= {
            "patch": "strategy", "base_features": 8, "batch_size": 4, "batch_dice": True,
        }  # fmt: skip
        chosen |= {"optimiser": "adamw", "learning_rate": 0.002, "lesion_share": 0.5}
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cases = list_cases(training, resampled, strategy, [], [], for_training=True)
    plans, dataset, fingerprint = plan(cases, strategy, arguments, folder / "plan", threads)
    _, _, epochs, measured = SIZES[settings["size"]]

    def learn(what: dict[str, Any], name: str) -> tuple[dict[str, torch.Tensor], float, float]:
        result = train(
            cases, {}, plans, dataset, fingerprint, what, 0, device, folder / name, name, threads
        )
        seconds = [row["seconds"] for row in result.history]
        return result.last, sum(seconds), seconds[-1]

    if contestant.startswith(MEASURE):
        few = chosen | {"epochs": 2, "steps_per_epoch": measured}
        write_json(folder / "step.json", {"seconds": learn(few, "measured")[2] / measured})
        return 0.0, 0, {}
    steps = 1
    if settings["size"] != "smoke":
        # In a process of its own: one that has computed with threads must not start workers.
        again = ["--contestant", MEASURE + contestant, "--inputs", str(resampled.parent)]
        again += ["--settings", json.dumps(settings), "--folder", str(folder / "measured")]
        (folder / "measured").mkdir()
        subprocess.run([sys.executable, str(Path(__file__).absolute()), *again], check=True)
        steps = count_steps(read_json(folder / "measured/step.json")["seconds"], settings)
    weights, seconds, _ = learn(chosen | {"epochs": epochs, "steps_per_epoch": steps}, "trained")
    # Stock nnU-Net looks at all reflections, half a window further each time.
    inference = settings["inference"]
    looks: dict[str, Any] = {"windows_per_batch": inference["windows_per_batch"]}
    looks |= {"mirroring": False, "overlap": inference["overlap"]} if best else {}
    network, windows = open_network(plans, dataset, weights, looks, device)
    found = {}
    for case in list_cases(testing, resampled, strategy, [], [], for_training=False).values():
        shape = np.load(resampled / case.study / strategy["grid"] / "label.npy", "r").shape
        prepared = [prepare_case(case, plans, dataset)]
        found[case.study] = predict_cases(network, windows, prepared, plans, dataset, shape, device)
    return seconds, steps * epochs, found


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
