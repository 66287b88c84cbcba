"""Find lesions with nnU-Net in the studies that it was not trained on."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from petct.command_line import exit_on_error
from petct.devices import choose_device
from petct.grids import Grid
from petct.manifests import read_json, write_json
from petct.nnunet import open_predictor, predict_case, read_plans
from petct.nnunet_cases import list_cases
from petct.predictions import save_prediction


def predict_nnunet(
    cohort: Path,
    model: Path,
    weights: Path,
    plans: Path,
    coarse: list[Path],
    regions: list[Path],
    resampled: Path,
    settings: dict[str, Any],
    threads: int,
    output: Path,
) -> None:
    """Write each study's probability and mask below ``output``'s folder, then ``output``.

    Everything is as predict_network writes it: ``<study>/probability.npy`` on the strategy's
    grid, ``<study>/lesions.nii.gz`` on the native PET grid.
    """
    torch.set_num_threads(threads)
    fixed = read_json(model)
    strategy = fixed["strategy"]
    plan_values, dataset, _ = read_plans(plans.parent)
    predictor = open_predictor(plan_values, dataset, weights, settings, choose_device())
    table = pd.read_csv(cohort, sep="\t", dtype={"study": str}, keep_default_na=False)
    studies = table["study"].tolist()
    cases = list_cases(studies, resampled, strategy, coarse, regions, for_training=False)
    entries = {}
    for study in studies:
        started = time.perf_counter()
        grid = Grid.from_json(read_json(resampled / study / strategy["grid"] / "grid.json"))
        probability = np.zeros(grid.shape_zyx, np.float32)
        own = [case for case in cases.values() if case.study == study]
        for case in own:
            found = predict_case(predictor, case)
            start = [a + b for a, b in zip(case.start_zyx, case.inside_zyx, strict=False)]
            box = tuple(slice(a, a + n) for a, n in zip(start, found.shape, strict=True))
            probability[box] = np.maximum(probability[box], found)
        entries[study] = save_prediction(
            probability, grid, read_json(resampled / study / "study.json"),
            settings["threshold"], output.parent / study, len(own),
            time.perf_counter() - started,
        )  # fmt: skip
    write_json(output, {**fixed["experiment"], "fold": fixed["fold"], "studies": entries})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cohort", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--plans", type=Path, required=True)
    parser.add_argument("--coarse", type=Path, nargs="*", required=True)
    parser.add_argument("--regions", type=Path, nargs="*", required=True)
    parser.add_argument("--resampled", type=Path, required=True)
    parser.add_argument("--settings", type=json.loads, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--output", type=Path, required=True)
    predict_nnunet(**vars(parser.parse_args()))


if __name__ == "__main__":
    with exit_on_error():
        main()
