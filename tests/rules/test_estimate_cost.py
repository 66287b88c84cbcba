"""The cost of a matrix: each network once, nnU-Net by what it would plan, nothing run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from array_studies import BODY_STRATEGY, BOX_STRATEGY, MODEL_SETTINGS
from estimate_cost import estimate_cost

NNUNET: dict[str, Any] = {
    "experiment": {"strategy": "two_step_boxes", "model": "nnunet", "cohort": "all"},
    "strategy": BOX_STRATEGY,
    "network": "nnUNet",
    "arguments": {"planner": "ExperimentPlanner", "suv_normalisation": "CT"},
    "training": {"validation_share": 0.2},
    "spacing_zyx_mm": [4.0, 4.0, 4.0],
    "trainings": 5,
}


def test_hours_and_memory_of_each_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unet = MODEL_SETTINGS | {
        "strategy": BODY_STRATEGY,
        "spacing_zyx_mm": [4.0, 4.0, 4.0],
        "trainings": 4,
    }
    estimate_cost(
        {
            "experiments": [unet, NNUNET],
            "body_zyx_mm": [256.0, 128.0, 128.0],
            "gpu_teraflops": 1e-6,
        },
        tmp_path / "cost.tsv",
    )
    table = pd.read_csv(tmp_path / "cost.tsv", sep="\t")
    assert table["model"].tolist() == ["tiny", "nnunet"]
    tiny, nnunet = table.to_dict("records")
    assert (tiny["patch_zyx"], tiny["batch_size"]) == ("16x16x16", 2)
    assert tiny["steps"] == 3 * 20
    # The body's 64 x 32 x 32 voxels are nnU-Net's patch; left alone it trains 1000 x 250 steps.
    assert nnunet["patch_zyx"] == "64x32x32"
    assert nnunet["steps"] == 250_000
    assert nnunet["total_hours"] == pytest.approx(5 * nnunet["hours"], rel=1e-3)
    hours = nnunet["teraflop_per_step"] * nnunet["steps"] / 1e-6 / 3600
    assert nnunet["hours"] == pytest.approx(hours, rel=0.01)
    printed = capsys.readouterr().out
    assert "Computed, not measured: 9 trainings" in printed
    assert "U-Net configuration" not in printed
