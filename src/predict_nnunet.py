"""Find lesions with nnU-Net in the studies that it was not trained on."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from petct.command_line import exit_on_error
from petct.devices import claim_device
from petct.folds import read_cohort
from petct.grids import Grid
from petct.job_state import hold_lock
from petct.manifests import read_json, write_json
from petct.nnunet import VERSIONS, open_predictor, predict_case, read_plans
from petct.nnunet_cases import Case, list_cases
from petct.predictions import keep_predictions, key_predictions, save_prediction
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
                predictor = open_predictor(plan_values, dataset, weights, settings, device)
                for study, key in missing.items():
                    own = [case for case in cases.values() if case.study == study]
                    grid_file = resampled / study / fixed["strategy"]["grid"] / "grid.json"
                    entries[study] = predict_study(
                        predictor, own, Grid.from_json(read_json(grid_file)),
                        read_json(resampled / study / "study.json"), settings["threshold"],
                        output.parent / study, key,
                    )  # fmt: skip
        made_by = {**fixed["experiment"], "fold": fixed["fold"], "weights": digest}
        write_json(output, {**made_by, "studies": entries})


def predict_study(
    predictor: nnUNetPredictor,
    cases: list[Case],
    grid: Grid,
    resampled: dict[str, Any],
    threshold: float,
    folder: Path,
    key: str,
) -> dict[str, Any]:
    """Predict a study's ``cases`` on ``grid``; the entry as ``save_prediction`` gives it.

    Where cases overlap, the higher probability stands.
    """
    started = time.perf_counter()
    probability = np.zeros(grid.shape_zyx, np.float32)
    for case in cases:
        found = predict_case(predictor, case)
        start = [a + b for a, b in zip(case.start_zyx, case.inside_zyx, strict=False)]
        box = tuple(slice(a, a + n) for a, n in zip(start, found.shape, strict=True))
        probability[box] = np.maximum(probability[box], found)
    seconds = time.perf_counter() - started
    return save_prediction(
        probability, grid, resampled, threshold, folder, key, len(cases), seconds
    )


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
