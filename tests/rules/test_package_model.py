"""What is packed: the experiment asked for or the best, and nothing of the patients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from package_model import fit_calibration, package_model
from petct.errors import PetctError
from petct.manifests import read_json
from petct.packages import unpack_package
from petct.trained_models import load_weights, save_model

EXPERIMENTS = ["one_step/unet/all", "two_step_boxes/unet/all"]
STAGE = {
    "kind": "network", "network": "UNet", "folds": [0, 1],
    "inference": {"checkpoint": "last", "threshold": 0.5}, "strategy": {"grid": "fine"},
}  # fmt: skip


def stage(name: str, strategy: str) -> dict[str, Any]:
    return STAGE | {"name": name, "experiment": [strategy, "unet", "all"]}


SETTINGS: dict[str, Any] = {
    "experiment": "best", "criterion": "dice", "dataset": "made_up",
    "preprocessing": {"ct_limit_hu": 1024.0}, "regions": {"margin_mm": 20.0},
    "candidates": {
        EXPERIMENTS[0]: [stage("final", "one_step")],
        EXPERIMENTS[1]: [stage("coarse", "coarse"), stage("final", "two_step_boxes")],
    },
}  # fmt: skip


def make_results(folder: Path) -> Path:
    """A finished study's tables and networks; the second experiment has the higher Dice."""
    tables = folder / "tables"
    tables.mkdir(parents=True)
    names = [
        dict(zip(["strategy", "model", "cohort"], e.split("/"), strict=True)) for e in EXPERIMENTS
    ]
    rows = [
        name | {"dice_mean": dice, "dice_low": dice - 0.1, "dice_high": dice + 0.1, "dice_n": 3}
        | {"fn_volume_ml_mean": volume, "fn_volume_ml_n": 3}
        for name, dice, volume in zip(names, (0.5, 0.6), (1.0, 2.0), strict=True)
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(tables / "comparison.tsv", sep="\t", index=False)
    bins = pd.DataFrame(
        {"bin_low": [0.0, 0.5, 0.0], "voxels": [90, 10, 10], "probability_sum": [0.9, 8.0, 0.1]}
    ).assign(lesion_voxels=[0, 4, 1], study="secret-1", **names[1])
    bins.to_csv(tables / "calibration.tsv", sep="\t", index=False)
    studies = pd.DataFrame({"study": ["secret-1", "secret-2"], "patient": ["anna", "bert"]}).assign(
        positive=[True, False], suv_max=[12.0, 8.0], pet_spacing_zyx_mm=["5x4x4", "3x2x2"]
    )
    studies["ct_covers_pet_share"] = [0.5, 0.75]
    studies.to_csv(tables / "studies.tsv", sep="\t", index=False)
    for strategy in ("coarse", "one_step", "two_step_boxes"):
        for fold in (0, 1):
            weights = {"w": torch.full((2,), float(fold))}
            save_model(
                folder / f"train_network/{strategy}/unet/all/fold-{fold}/model.json", "key",
                {"network": "UNet", "strategy": {"grid": "fine"}, "fold": fold},
                pd.DataFrame({"study": [f"secret-{2 - fold}"], "digest": ["d"]}), ["secret-2"],
                [{"epoch": 1.0}], weights, weights,
            )  # fmt: skip
    return tables


def pack(tables: Path, output: Path, **changes: Any) -> dict[str, Any]:
    package_model(
        tables / "comparison.tsv", tables / "calibration.tsv", tables / "studies.tsv",
        SETTINGS | changes, output,
    )  # fmt: skip
    return unpack_package(output, output.parent / "unpacked")


def test_the_best_by_dice_with_its_coarse_step(tmp_path: Path) -> None:
    told = pack(make_results(tmp_path), tmp_path / "out/package.zip")
    assert list(told["experiment"].values()) == ["all", "unet", "two_step_boxes"]  # sorted keys
    assert [stage["name"] for stage in told["stages"]] == ["coarse", "final"]
    unpacked = tmp_path / "out/unpacked"
    for name in ("coarse", "final"):
        for fold in (0, 1):
            model = unpacked / f"{name}/fold-{fold}/model.json"
            assert load_weights(model, "last")["w"].tolist() == [fold, fold]
            assert not model.with_name("best.safetensors").exists()
    assert read_json(unpacked / "preprocessing.json") == {
        "ct_limit_hu": 1024.0, "unusable_study": "exclude",
    }  # fmt: skip
    assert told["data"]["suv_max"] == [8.0, 12.0]
    assert told["data"]["ct_covers_pet_share"] == [0.5, 0.75]
    assert told["data"]["pet_spacing_zyx_mm"] == [[3.0, 2.0, 2.0], [5.0, 4.0, 4.0]]
    assert told["data"]["training_studies"] == 2
    card = (tmp_path / "out/model_card.md").read_text()
    assert card == (unpacked / "model_card.md").read_text()
    assert "Dice of studies with lesions: 0.60 (n = 3), 95 % interval 0.50 to 0.70" in card
    assert "lesions found: not defined" in card


def test_another_criterion_and_a_name(tmp_path: Path) -> None:
    tables = make_results(tmp_path)
    told = pack(tables, tmp_path / "out/package.zip", criterion="fn_volume")
    assert told["experiment"]["strategy"] == "one_step" and told["chosen_by"] == "fn_volume"
    told = pack(tables, tmp_path / "out/package.zip", experiment=EXPERIMENTS[0])
    assert told["experiment"]["strategy"] == "one_step" and told["chosen_by"] == "name"


def test_no_patient_is_in_it(tmp_path: Path) -> None:
    pack(make_results(tmp_path), tmp_path / "out/package.zip")
    content = (tmp_path / "out/package.zip").read_bytes()
    assert not any(word in content for word in (b"secret", b"anna", b"bert"))


def test_an_experiment_that_is_not_there_is_told(tmp_path: Path) -> None:
    tables = make_results(tmp_path)
    with pytest.raises(PetctError, match=r"'one_step/unetr/all' is none that can be packed"):
        pack(tables, tmp_path / "out/package.zip", experiment="one_step/unetr/all")
    comparison = pd.read_csv(tables / "comparison.tsv", sep="\t").assign(dice_mean=np.nan)
    comparison.to_csv(tables / "comparison.tsv", sep="\t", index=False, na_rep="nan")
    with pytest.raises(PetctError, match=r"none of .* has a dice_mean to choose by; name one"):
        pack(tables, tmp_path / "out/package.zip")


def test_calibration_counts_the_voxels_of_all_studies(tmp_path: Path) -> None:
    """100 voxels of mean probability 0.01 of which 1 is lesion, 10 of 0.8 of which 4 are."""
    table = pd.read_csv(make_results(tmp_path) / "calibration.tsv", sep="\t")
    curve = fit_calibration(table, EXPERIMENTS[1])
    assert np.array(curve) == pytest.approx(np.array([[0.01, 0.01], [0.8, 0.4]]))
    assert fit_calibration(table, EXPERIMENTS[0]) == []
