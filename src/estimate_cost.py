"""Compute what each training of the matrix would cost in GPU memory and hours; nothing is run."""

from __future__ import annotations

import argparse
import io
import json
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from petct.command_line import exit_on_error
from petct.cost import StepCost, count_step
from petct.networks import build_network
from petct.nnunet import CONFIGURATION, STOCK_EPOCHS, STOCK_STEPS, build_from_plans, plan_image
from petct.provenance import save_origin

COLUMNS = [
    *["strategy", "model", "patch_zyx", "batch_size", "parameters", "teraflop_per_step"],
    *["memory_gb", "steps", "hours", "trainings", "total_hours"],
]


def cost_nnunet(
    experiment: dict[str, Any], body_zyx_mm: list[float], channels: int
) -> tuple[StepCost, list[int], int, int]:
    """nnU-Net's step, patch, batch and number of steps, for what it would plan for such a body."""
    # nnU-Net tells of every step of its planning; here the table says it.
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        plans, dataset = plan_image(
            experiment["spacing_zyx_mm"],
            [mm / s for mm, s in zip(body_zyx_mm, experiment["spacing_zyx_mm"], strict=True)],
            experiment["strategy"], experiment["arguments"], Path(folder),
        )  # fmt: skip
    configuration = plans["configurations"][CONFIGURATION]
    with torch.device("meta"):
        network = build_from_plans(plans, dataset, deep_supervision=True)
    patch, batch = list(configuration["patch_size"]), int(configuration["batch_size"])
    training = experiment["training"]
    steps = training.get("epochs", STOCK_EPOCHS) * training.get("steps_per_epoch", STOCK_STEPS)
    return count_step(network, (batch, channels, *patch), torch.bfloat16), patch, batch, steps


def cost_network(experiment: dict[str, Any], channels: int) -> tuple[StepCost, list[int], int, int]:
    """The same for a network of MONAI, whose patch and batch the settings state."""
    patch, training = experiment["strategy"]["patch_zyx"], experiment["training"]
    with torch.device("meta"):
        network = build_network(
            experiment["network"], experiment["arguments"], channels, tuple(patch), seed=0
        )
    batch, steps = training["batch_size"], training["epochs"] * training["steps_per_epoch"]
    return count_step(network, (batch, channels, *patch), torch.bfloat16), patch, batch, steps


def estimate_cost(settings: dict[str, Any], output: Path) -> None:
    """Write one row per strategy and model, and print the sum.

    ``settings``: ``experiments`` (for each the settings that its training job gets, its grid's
    ``spacing_zyx_mm`` and how many ``trainings`` over cohorts and folds), ``body_zyx_mm`` (a
    typical body, by which nnU-Net would plan) and ``gpu_teraflops`` (sustained).
    """
    rows = []
    for experiment in settings["experiments"]:
        channels = 3 if experiment["strategy"]["prior"] else 2
        if experiment["network"] == "nnUNet":
            cost, patch, batch, steps = cost_nnunet(experiment, settings["body_zyx_mm"], channels)
        else:
            cost, patch, batch, steps = cost_network(experiment, channels)
        hours = cost.teraflop * steps / settings["gpu_teraflops"] / 3600
        rows.append(
            {
                "strategy": experiment["experiment"]["strategy"],
                "model": experiment["experiment"]["model"],
                "patch_zyx": "x".join(str(n) for n in patch),
                "batch_size": batch,
                "parameters": cost.parameters,
                "teraflop_per_step": round(cost.teraflop, 3),
                "memory_gb": round(cost.memory_gb, 1),
                "steps": steps,
                "hours": round(hours, 2),
                "trainings": experiment["trainings"],
                "total_hours": round(hours * experiment["trainings"], 1),
            }
        )
    table = pd.DataFrame(rows, columns=COLUMNS)
    output.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(output, sep="\t", index=False)
    print(table.to_string(index=False))
    print(
        f"\nComputed, not measured: {table['trainings'].sum()} trainings,"
        f" {table['total_hours'].sum():.0f} GPU hours at {settings['gpu_teraflops']:g} TFLOP/s."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", type=json.loads, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--code", required=True, help="digest of the code")
    arguments = parser.parse_args()
    estimate_cost(arguments.settings, arguments.output)
    save_origin(arguments.output, "estimate_cost", arguments.code, arguments.settings, [])


if __name__ == "__main__":
    with exit_on_error():
        main()
