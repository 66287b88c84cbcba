"""Wrong settings are told in words, all at once; the shipped ones are right."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from petct.configuration import Experiment, list_experiments, list_problems

ROOT = Path(__file__).parents[2]
SCHEMA = yaml.safe_load((ROOT / "config/config.schema.yaml").read_text())
DEFAULT = yaml.safe_load((ROOT / "config/config.yaml").read_text())


def merged(base: dict[str, Any], overlay: dict[str, Any]) -> dict[str, Any]:
    """As Snakemake merges config files: mappings merge, all else replaces."""
    result = dict(base)
    for key, value in overlay.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


def problems(**overlay: Any) -> str:
    return "\n".join(list_problems(merged(deepcopy(DEFAULT), overlay), SCHEMA))


def test_the_default_is_right() -> None:
    assert problems() == ""


def test_every_overlay_is_right(tmp_path: Path) -> None:
    for path in sorted((ROOT / "config").glob("*.yaml")):
        if path.name not in ("config.yaml", "config.schema.yaml"):
            overlay = yaml.safe_load(path.read_text())
            if overlay.get("source") == "folder":
                overlay["folder"] = str(tmp_path)
            assert problems(**overlay) == "", path.name


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        ({"trainings": {}}, "'trainings' was unexpected"),
        ({"training": {"epoch": 3}}, "training: Additional properties are not allowed ('epoch'"),
        ({"folds": 1}, "folds: 1 is less than the minimum of 2"),
        ({"training": {"learning_rate": "1e-3"}}, "training.learning_rate: '1e-3' is not of type"),
        ({"source": "folder"}, "folder: source is folder, so give it"),
        ({"source": "folder", "folder": "/not/there"}, "folder: /not/there is not a folder"),
        ({"dataset": "benchmark"}, "dataset: results/benchmark is that target's"),
        ({"apply_to": "/not/there"}, "apply_to: /not/there is not a folder"),
        ({"apply": {"package": "/not/there"}}, "apply.package: /not/there is not a file"),
        ({"source": "idc"}, "collection: source is idc, so give it: --config collection="),
        ({"download": {"list": "/not/there"}}, "download.list: /not/there is not a file"),
        ({"download": {"index": "/not/there"}}, "download.index: /not/there is not a file"),
        ({"download": {"endpoint": "there"}}, "download.endpoint: 'there' does not match"),
        ({"download": {"studies": 0}}, "download.studies: 0 is less than the minimum of 1"),
        ({"models": {"unet_small": {"gpus": 0}}}, "models.unet_small.gpus: 0 is less than the min"),
        (
            {"models": {"unet_small": {"gpus": 3}}},
            "models.unet_small.gpus: 3 cannot share one_step's batches of 4 (training.batch_size)",
        ),
        ({"models": {"unetr_large": {"gpus": 4}}}, "cannot share one_step's batches of 2"),
        ({"strategies": {"one_step": {"grid": "finest"}}}, "strategies.one_step.grid: 'finest'"),
        ({"strategies": {"two_step_prior": {"coarse": "rough"}}}, "'rough' is none of the strat"),
        ({"strategies": {"two_step_prior": {"coarse": None}}}, "need a coarse strategy"),
        (
            {"strategies": {"two_step_prior": {"coarse": "two_step_boxes"}}},
            "'two_step_boxes' has a coarse strategy of its own",
        ),
        ({"strategies": {"two_step_prior": {"coarse_model": "x"}}}, "'x' is none of the models"),
        ({"models": {"nnunet_small": {"arguments": {"planner": "My"}}}}, "'My' is not one of"),
        (
            {"models": {"nnunet_small": {"training": {"warmup_steps": 1}}}},
            "('warmup_steps' was unexp",
        ),
        ({"models": {"unet_small": {"inference": {}}}}, "models.unet_small.inference"),
        ({"models": {"unetr_small": {"patch_zyx": [32]}}}, "models.unetr_small.patch_zyx: [32] is"),
        ({"experiments": {"models": ["unet_smal"]}}, "experiments.models: 'unet_smal' is not"),
        ({"experiments": {"exclude": [{"model": "x"}]}}, "exclude[0].model: 'x' is not defined"),
        (
            {"experiments": {"exclude": [{"cohort": "all"}, {"cohort": "positive"}]}},
            "experiments: exclude leaves none",
        ),
    ],
)
def test_wrong_settings_are_named(overlay: dict[str, Any], message: str) -> None:
    assert message in problems(**overlay)


def test_gpus_that_share_every_batch_are_right() -> None:
    models = {name: {"gpus": 2} for name in ("unet_small", "unetr_large", "nnunet_small")}
    assert problems(models=models) == ""


def test_all_problems_are_listed_at_once() -> None:
    assert len(problems(folds=1, seed=-1).splitlines()) == 2


def test_the_matrix_less_what_is_excluded() -> None:
    chosen = {
        "strategies": ["a", "b"],
        "models": ["m", "n"],
        "cohorts": ["all"],
        "exclude": [{"strategy": "b", "model": "m"}],
    }
    assert list_experiments(chosen) == [
        Experiment("a", "m", "all"),
        Experiment("a", "n", "all"),
        Experiment("b", "n", "all"),
    ]


def test_pip_and_conda_state_the_same_pins() -> None:
    pip = [
        line
        for line in (ROOT / "envs/requirements.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    conda = yaml.safe_load((ROOT / "envs/environment.yaml").read_text())
    assert conda["dependencies"][-1]["pip"] == pip
