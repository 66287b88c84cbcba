"""Find lesions with nnU-Net in the studies that it was not trained on."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from petct.command_line import exit_on_error
from petct.devices import claim_device
from petct.folds import read_cohort
from petct.grids import Grid
from petct.job_state import hold_lock
from petct.manifests import read_json, write_json
from petct.nnunet import VERSIONS, read_plans
from petct.nnunet_cases import Case, list_cases
from petct.nnunet_prediction import open_network, predict_cases, prepare_case
from petct.predictions import keep_predictions, key_predictions, save_prediction
from petct.prefetching import run_ahead
from petct.trained_models import load_weights


def predict_nnunet(
    cohort: Path,
    model: Path,
    plans: Path,
    coarse: list[Path],
    regions: list[Path],
    resampled: Path,
    settings: dict[str, Any],
    threads: int,
    code: str,
    output: Path,
) -> None:
    """Write each study's probability and mask below ``output``'s folder, then ``output``.

    Everything is as predict_network writes it: ``<study>/probability.npy`` on the strategy's
    grid, ``<study>/lesions.nii.gz`` on the native PET grid. Studies that are predicted already
    stay.
    """
    torch.set_num_threads(threads)
    fixed = read_json(model)
    digest = fixed["digests"][settings["checkpoint"]]
    studies = read_cohort(cohort)["study"].tolist()
    keys = key_predictions(
        studies, resampled, coarse, regions, code, [fixed["strategy"], settings, VERSIONS],
        digest, plans, plans.with_name("dataset.json"),
    )  # fmt: skip
    with hold_lock(output.parent):
        entries = keep_predictions(output.parent, keys)
        missing = {study: key for study, key in keys.items() if study not in entries}
        if missing:
            cases = list_cases(
                list(missing), resampled, fixed["strategy"], coarse, regions, for_training=False
            )
            plan_values, dataset, _ = read_plans(plans.parent)
            weights = load_weights(model, settings["checkpoint"])
            with claim_device() as device:
                network, windows = open_network(plan_values, dataset, weights, settings, device)
                # The next study is read while this one is on the device.
                read = (
                    (study, [prepare_case(case, plan_values, dataset) for case in own])
                    for study, own in group_cases(missing, cases).items()
                )
                for study, prepared in run_ahead(read, 1):
                    started = time.perf_counter()
                    grid_file = resampled / study / fixed["strategy"]["grid"] / "grid.json"
                    grid = Grid.from_json(read_json(grid_file))
                    probability = predict_cases(
                        network, windows, prepared, plan_values, dataset, grid.shape_zyx, device
                    )
                    entries[study] = save_prediction(
                        probability, grid, read_json(resampled / study / "study.json"),
                        settings["threshold"], output.parent / study, missing[study],
                        len(prepared), time.perf_counter() - started,
                    )  # fmt: skip
        made_by = {**fixed["experiment"], "fold": fixed["fold"], "weights": digest}
        write_json(output, {**made_by, "studies": entries})


def group_cases(studies: Iterable[str], cases: dict[str, Case]) -> dict[str, list[Case]]:
    """The cases of each study."""
    return {study: [case for case in cases.values() if case.study == study] for study in studies}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cohort", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--plans", type=Path, required=True)
    parser.add_argument("--coarse", type=Path, nargs="*", required=True)
    parser.add_argument("--regions", type=Path, nargs="*", required=True)
    parser.add_argument("--resampled", type=Path, required=True)
    parser.add_argument("--settings", type=json.loads, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--code", required=True)
    parser.add_argument("--output", type=Path, required=True)
    predict_nnunet(**vars(parser.parse_args()))


if __name__ == "__main__":
    with exit_on_error():
        main()
