"""nnU-Net's plan: made from the training fold alone, on the strategy's grid, by its own rules."""

from __future__ import annotations

import json
import os
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import NNUNET_ARGUMENTS

from array_studies import BODY_STRATEGY, BOX_STRATEGY, write_cohort, write_resampled
from petct.errors import PetctError
from petct.manifests import read_json
from petct.nnunet import PLANNERS
from plan_nnunet import plan_nnunet

SCRIPT = Path(__file__).parents[2] / "src" / "plan_nnunet.py"


def plan(root: Path, output: Path, cohort: Path | None = None, **changed: Any) -> dict[str, Any]:
    """The configuration that is trained."""
    settings = {"strategy": BODY_STRATEGY, "arguments": NNUNET_ARGUMENTS} | changed
    plan_nnunet(
        cohort or root / "train.tsv", [], [], root / "resample_study", 0, settings, 1, output
    )
    return dict(read_json(output)["configurations"]["3d_fullres"])


def test_the_plan_is_of_the_training_studies_on_the_strategys_grid(planned: Path) -> None:
    fingerprint = read_json(planned / "fingerprint.json")
    assert fingerprint["spacings"] == [[4.0, 4.0, 4.0]] * 3  # a, b and c; d is held out
    # Lesions have SUV 8 and 0 HU, which is what a network reads as ln 9 and 0.
    ct, suv = (fingerprint["foreground_intensity_properties_per_channel"][key] for key in "01")
    assert suv["median"] == pytest.approx(np.log(9.0), abs=2e-3)
    assert ct["median"] == pytest.approx(0.0, abs=1e-6)

    assert read_json(planned / "dataset.json")["channel_names"] == {"0": "CT", "1": "CT"}
    (chosen,) = read_json(planned / "plans.json")["configurations"].values()
    assert chosen["spacing"] == [4.0, 4.0, 4.0]
    assert (chosen["patch_size"], chosen["batch_size"]) == ([16, 16, 16], 2)
    network = chosen["architecture"]
    assert network["network_class_name"].endswith("PlainConvUNet")
    # Halved while a side is at least 8: 16, 8, 4.
    assert network["arch_kwargs"]["features_per_stage"] == [4, 8, 16]
    assert not (planned / "work").exists()
    assert not {"nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"} & set(os.environ)


def test_left_alone_nnunet_decides(tmp_path: Path, trained: Path) -> None:
    arguments = {"planner": "ExperimentPlanner", "suv_normalisation": "zscore"}
    chosen = plan(trained, tmp_path / "plans.json", arguments=arguments)
    # The whole of these small studies fits: its patch is the median shape, made divisible.
    shapes = read_json(tmp_path / "fingerprint.json")["shapes_after_crop"]
    for side, median in zip(chosen["patch_size"], np.median(shapes, axis=0), strict=True):
        assert median <= side < median + 8
    assert chosen["architecture"]["arch_kwargs"]["features_per_stage"][0] == 32
    assert chosen["normalization_schemes"] == ["CTNormalization", "ZScoreNormalization"]


def test_residual_encoder_on_boxes_with_the_coarse_prediction(
    tmp_path: Path, coarse_inputs: tuple[Path, Path], trained: Path
) -> None:
    coarse, regions = coarse_inputs
    settings = {
        "strategy": BOX_STRATEGY,
        "arguments": NNUNET_ARGUMENTS | {"planner": "nnUNetPlannerResEncM"},
    }
    output = tmp_path / "plans.json"
    plan_nnunet(
        trained / "train.tsv", [coarse], [regions], trained / "resample_study", 0, settings, 1,
        output,
    )  # fmt: skip
    (chosen,) = read_json(output)["configurations"].values()
    assert chosen["architecture"]["network_class_name"].endswith("ResidualEncoderUNet")
    # A box around a's lesion and one around both of b's, none in c.
    shapes = read_json(tmp_path / "fingerprint.json")["shapes_after_crop"]
    assert len(shapes) == 2
    assert min(min(shape) for shape in shapes) >= 16
    assert read_json(tmp_path / "dataset.json")["channel_names"]["2"] == "noNorm"
    assert chosen["normalization_schemes"][2] == "NoNormalization"


def test_every_planner_is_allowed_by_the_schema() -> None:
    import yaml

    schema = yaml.safe_load(
        (Path(__file__).parents[2] / "config" / "config.schema.yaml").read_text()
    )
    named = schema["$defs"]["nnunet_arguments"]["properties"]["planner"]["enum"]
    assert set(named) == set(PLANNERS)


def test_a_patch_that_nnunet_would_change_is_refused(tmp_path: Path, trained: Path) -> None:
    # 18 is halved to 9 and again, so it would have to be a multiple of 4.
    strategy = BODY_STRATEGY | {"patch_zyx": [18, 16, 16]}
    with pytest.raises(PetctError, match=r"cannot take the strategy's patch \[18, 16, 16\]"):
        plan(trained, tmp_path / "plans.json", strategy=strategy)
    assert not (tmp_path / "plans.json").exists()


def test_without_lesions_there_is_no_plan(tmp_path: Path) -> None:
    write_resampled(tmp_path, "c", [])
    cohort = write_cohort(tmp_path / "train.tsv", {"c": 1}, negative=("c",))
    with pytest.raises(PetctError, match="none of 1 cases has any"):
        plan(tmp_path, tmp_path / "plans.json", cohort)


def test_studies_of_the_held_out_fold_are_refused(tmp_path: Path, trained: Path) -> None:
    cohort = write_cohort(tmp_path / "train.tsv", {"a": 1, "d": 0})
    with pytest.raises(ValueError, match="held-out fold 0"):
        plan(trained, tmp_path / "plans.json", cohort)


def test_the_command_line_tells_a_fault_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_resampled(tmp_path, "c", [])
    cohort = write_cohort(tmp_path / "train.tsv", {"c": 1}, negative=("c",))
    settings = json.dumps({"strategy": BODY_STRATEGY, "arguments": NNUNET_ARGUMENTS})
    arguments = ["--cohort", str(cohort), "--coarse", "--regions", "--fold", "0"]
    arguments += ["--resampled", str(tmp_path / "resample_study"), "--settings", settings]
    arguments += ["--threads", "1", "--output", str(tmp_path / "plans.json")]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert stopped.value.code == 1
    assert "nnU-Net plans from lesion voxels" in capsys.readouterr().err
