"""Train nnU-Net by its plan: a model in a strategy, on a cohort, without one fold."""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from petct.command_line import exit_on_error
from petct.devices import claim_device
from petct.folds import choose_validation_studies, read_training_studies
from petct.job_state import hold_lock, job_key
from petct.nnunet import VERSIONS, read_plans
from petct.nnunet_cases import list_cases
from petct.nnunet_training import train
from petct.processes import join_processes, tell_all
from petct.provenance import describe_origin, digest_files
from petct.trained_models import restore_model, save_model


def train_nnunet(
    cohort: Path,
    plans: Path,
    coarse: list[Path],
    regions: list[Path],
    resampled: Path,
    fold: int,
    settings: dict[str, Any],
    threads: int,
    code: str,
    output: Path,
) -> None:
    """Write last.safetensors, best.safetensors and history.tsv beside ``output``, then ``output``.

    ``plans`` is plans.json of plan_nnunet. The patients that nnU-Net watches its training on are
    chosen as for every other network, from the training folds. ``code`` is the digest of the code.
    A training that was killed goes on after its last finished epoch, one that was finished is not
    repeated. Started by torchrun as several processes, each takes its share of ``threads`` and of
    nnU-Net's batch.
    """
    plan_values, dataset, fingerprint = read_plans(plans.parent)
    read = [cohort, plans, plans.with_name("dataset.json"), *coarse, *regions]
    key = job_key(code, [settings, fold, VERSIONS], *read)
    with join_processes() as (rank, processes), ExitStack() as held:
        if rank == 0:
            held.enter_context(hold_lock(output.parent))
        if tell_all(rank == 0 and restore_model(output, key)):
            return
        threads = max(1, threads // processes)
        torch.set_num_threads(threads)
        studies = read_training_studies(cohort, fold)
        validating = choose_validation_studies(
            studies, settings["training"]["validation_share"], settings["seed"]
        )
        cases = list_cases(
            studies["study"].tolist(),
            resampled,
            settings["strategy"],
            coarse,
            regions,
            for_training=True,
        )
        validation = {name: case for name, case in cases.items() if case.study in validating}
        training = {name: case for name, case in cases.items() if name not in validation}
        device = held.enter_context(claim_device())
        result = train(
            training,
            validation,
            plan_values,
            dataset,
            fingerprint,
            settings["training"],
            settings["seed"],
            device,
            output.parent / "state",
            key,
            threads,
        )
        data = digest_files(read, output.parent)
        description = {
            **settings,
            "fold": fold,
            "in_channels": len(dataset["channel_names"]),
            "parameters": result.parameters,
            "origin": describe_origin("train_nnunet", code, settings, data, device),
        }
        if rank == 0:
            save_model(
                output, key, description, studies, validating,
                result.history, result.last, result.best,
            )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cohort", type=Path, required=True)
    parser.add_argument("--plans", type=Path, required=True)
    parser.add_argument("--coarse", type=Path, nargs="*", required=True)
    parser.add_argument("--regions", type=Path, nargs="*", required=True)
    parser.add_argument("--resampled", type=Path, required=True)
    parser.add_argument("--fold", type=int, required=True)
    parser.add_argument("--settings", type=json.loads, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--code", required=True)
    parser.add_argument("--output", type=Path, required=True)
    train_nnunet(**vars(parser.parse_args()))


if __name__ == "__main__":
    with exit_on_error():
        main()
