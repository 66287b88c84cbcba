"""Networks trained for a second on studies whose lesions are their brightest boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from array_studies import (
    BODY_STRATEGY,
    MODEL_SETTINGS,
    Box,
    write_cohort,
    write_predictions,
    write_regions,
    write_resampled,
)
from petct.arrays import open_arrays
from plan_nnunet import plan_nnunet
from train_network import train_network
from train_nnunet import train_nnunet

LESIONS: dict[str, list[Box]] = {
    "a": [(8, 9, 8, 12, 14, 13)],
    "b": [(14, 18, 15, 18, 22, 20), (7, 8, 7, 10, 11, 10)],
    "c": [],
    "d": [(11, 15, 9, 16, 20, 14)],
}


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder: resample_study/{a,b,c,d}, train.tsv (a, b, c), test.tsv (d), fold-0/model.json."""
    root = tmp_path_factory.mktemp("trained")
    for study, lesions in LESIONS.items():
        write_resampled(root, study, lesions)
    cohort = write_cohort(root / "train.tsv", {"a": 1, "b": 1, "c": 1}, negative=("c",))
    write_cohort(root / "test.tsv", {"d": 0})
    output = root / "fold-0" / "model.json"
    train_network(cohort, [], [], root / "resample_study", 0, MODEL_SETTINGS, 1, "code", output)
    return root


NNUNET_ARGUMENTS: dict[str, Any] = {
    "planner": "ExperimentPlanner",
    "suv_normalisation": "CT",
    "patch": "strategy",
    "base_features": 4,
    "batch_size": 2,
    "batch_dice": True,
}
NNUNET_SETTINGS: dict[str, Any] = {
    "experiment": {"strategy": "one_step", "model": "nnunet", "cohort": "all"},
    "strategy": BODY_STRATEGY,
    "network": "nnUNet",
    "arguments": NNUNET_ARGUMENTS,
    "training": {
        "epochs": 3,
        "steps_per_epoch": 25,
        "validation_steps": 2,
        "learning_rate": 0.01,
        "optimiser": "adamw",
        "lesion_share": 0.5,
        "validation_share": 0.34,
    },
    "seed": 4,
}


@pytest.fixture(scope="session")
def planned(trained: Path) -> Path:
    """plans.json, dataset.json and fingerprint.json of the studies that ``trained`` trains on."""
    folder = trained / "plan_nnunet"
    settings = {"strategy": BODY_STRATEGY, "arguments": NNUNET_ARGUMENTS}
    plan_nnunet(
        trained / "train.tsv", [], [], trained / "resample_study", 0, settings, 1,
        folder / "plans.json",
    )  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def trained_nnunet(trained: Path, planned: Path) -> Path:
    """model.json and what belongs to it, of nnU-Net on those studies."""
    output = trained / "train_nnunet" / "model.json"
    train_nnunet(
        trained / "train.tsv", planned / "plans.json", [], [], trained / "resample_study", 0,
        NNUNET_SETTINGS, 1, "code", output,
    )  # fmt: skip
    return output.parent


@pytest.fixture(scope="session")
def coarse_inputs(trained: Path) -> tuple[Path, Path]:
    """Coarse predictions and boxes of a, b and c: what the coarse network knew is their label."""
    probabilities: dict[str, np.ndarray] = {}
    boxes: dict[str, list[Box]] = {}
    reference: dict[str, list[Box]] = {}
    for study, lesions in LESIONS.items():
        arrays = open_arrays(trained / "resample_study" / study / "coarse")
        probabilities[study] = 0.9 * np.asarray(arrays.label, float)
        fine = open_arrays(trained / "resample_study" / study / "fine")
        found = np.argwhere(np.asarray(fine.label))
        boxes[study] = []
        if lesions:
            z0, y0, x0 = (int(n) for n in found.min(0))
            z1, y1, x1 = (int(n) + 1 for n in found.max(0))
            boxes[study].append((z0, y0, x0, z1, y1, x1))
        reference[study] = []
    coarse = write_predictions(
        trained / "coarse" / "predictions.json",
        open_arrays(trained / "resample_study" / "a" / "coarse").grid,
        probabilities,
    )
    return coarse, write_regions(trained / "regions.json", boxes, reference)
