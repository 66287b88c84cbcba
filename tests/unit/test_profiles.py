"""The cluster profiles and what rules ask of a cluster."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROFILES = [ROOT / f"config/profiles/{name}/config.yaml" for name in ("slurm", "kubernetes")]
GPU_RULES = {
    *["train_network", "train_nnunet"],
    *["predict_network", "predict_nnunet", "predict_studies"],
}


def read_rules() -> dict[str, str]:
    """The text of each rule; one that takes after another (use rule ... as) has its own part."""
    text = "\n".join(path.read_text() for path in sorted((ROOT / "rules").glob("*.smk")))
    text = re.sub(r"(?m)^use rule \w+ as (\w+) with:", r"rule \1:", text)
    blocks = re.split(r"(?m)^(?=(?:rule|checkpoint) )", text)[1:]
    return {re.split(r"\W+", block, maxsplit=2)[1]: block for block in blocks}


def test_every_rule_says_what_it_needs() -> None:
    rules = read_rules()
    for name, text in rules.items():
        shared = "**SMALL_JOB" in text or "**CONTEST" in text
        stated = "mem_mb=" in text and "runtime=" in text
        assert shared or stated or "shell:" not in text, name
    on_gpus = {name for name, text in rules.items() if re.search(r"\bgpu=", text)}
    # A contest takes the whole machine.
    assert {name for name in on_gpus if not name.startswith("benchmark_")} == GPU_RULES


@pytest.mark.parametrize("profile", PROFILES, ids=lambda path: path.parent.name)
def test_profiles_name_rules_that_exist(profile: Path) -> None:
    settings = yaml.safe_load(profile.read_text())
    assert set(settings["groups"]) <= set(read_rules())
    assert not set(settings["groups"]) & GPU_RULES
    assert set(settings["group-components"]) <= set(settings["groups"].values())
    # It would hold the GPU jobs of the whole cluster to that number.
    assert "gpu" not in settings.get("resources", {})
    assert settings["retries"] >= 1
