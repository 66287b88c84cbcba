"""Training as a job: what it writes, what it refuses, and that it writes the same twice."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from array_studies import (
    BOX_STRATEGY,
    MODEL_SETTINGS,
    Box,
    write_cohort,
    write_predictions,
    write_regions,
)
from petct.arrays import open_arrays
from petct.errors import PetctError
from petct.manifests import digest_arrays, read_json
from petct.networks import build_network
from train_network import train_network

SCRIPT = Path(__file__).parents[2] / "src" / "train_network.py"
# Two steps: for what does not depend on learning.
SHORT = MODEL_SETTINGS["training"] | {"epochs": 2, "steps_per_epoch": 1}


def test_weights_history_and_model_are_there(trained: Path) -> None:
    folder = trained / "fold-0"
    assert {path.name for path in folder.iterdir() if path.is_file()} == {
        "model.json",
        "last.safetensors",
        "best.safetensors",
        "history.tsv",
        "finished.json",
        "lock",
    }
    assert not (folder / "state").exists()
    model = read_json(folder / "model.json")
    assert model | MODEL_SETTINGS == model  # all that prediction must know
    assert (model["fold"], model["in_channels"], model["precision"]) == (0, 2, "float32")
    assert model["studies"] == {"a": "d-a", "b": "d-b", "c": "d-c"}

    network = build_network("UNet", model["arguments"], 2, (16, 16, 16), seed=0)
    assert model["parameters"] == sum(p.numel() for p in network.parameters())
    for name in ("last", "best"):
        weights = load_file(folder / f"{name}.safetensors")
        network.load_state_dict(weights)
        arrays = [weights[key].numpy() for key in sorted(weights)]
        assert model["digests"][name] == digest_arrays(*arrays)

    history = pd.read_csv(folder / "history.tsv", sep="\t")
    assert list(history) == [
        *["epoch", "train_loss", "validation_loss", "validation_dice", "learning_rate", "seconds"]
    ]
    assert history["epoch"].tolist() == [1, 2, 3]
    assert history["train_loss"].iloc[-1] < 0.5 * history["train_loss"].iloc[0]
    assert model["best_epoch"] == 1 + history["validation_loss"].argmin()


def test_validation_patients_do_not_train(tmp_path: Path, trained: Path) -> None:
    (study,) = read_json(trained / "fold-0" / "model.json")["validation_studies"]
    assert study in ("a", "b")  # a third of two patients with lesions, none of one without
    # With other values in the validation study, the weights are the same.
    resampled = tmp_path / "resample_study"
    shutil.copytree(trained / "resample_study", resampled)
    image = np.load(resampled / study / "fine" / "image.npy")
    np.save(resampled / study / "fine" / "image.npy", image[:, ::-1])
    output = tmp_path / "fold-0" / "model.json"
    train_network(trained / "train.tsv", [], [], resampled, 0, MODEL_SETTINGS, 1, "code", output)
    one, two = (read_json(root / "fold-0" / "model.json") for root in (trained, tmp_path))
    assert one["digests"]["last"] == two["digests"]["last"]
    histories = [
        pd.read_csv(root / "fold-0" / "history.tsv", sep="\t") for root in (trained, tmp_path)
    ]
    assert (histories[0]["train_loss"] == histories[1]["train_loss"]).all()
    assert (histories[0]["validation_loss"] != histories[1]["validation_loss"]).all()


def test_all_studies_of_a_validation_patient_are_held_out(tmp_path: Path, trained: Path) -> None:
    cohort = tmp_path / "train.tsv"
    table = pd.read_csv(trained / "train.tsv", sep="\t")
    # a and c are one patient, who has lesions in a; b is the other one.
    table.assign(patient=["p", "q", "p"]).to_csv(cohort, sep="\t", index=False)
    held_out = set()
    for seed in range(6):
        settings = MODEL_SETTINGS | {"seed": seed, "training": SHORT | {"epochs": 1}}
        output = tmp_path / str(seed) / "model.json"
        train_network(cohort, [], [], trained / "resample_study", 0, settings, 1, "code", output)
        held_out.add(tuple(read_json(output)["validation_studies"]))
    assert held_out == {("a", "c"), ("b",)}


def test_the_same_twice_and_another_seed_something_else(tmp_path: Path, trained: Path) -> None:
    digests = []
    for name, seed in (("one", 4), ("two", 4), ("three", 5)):
        output = tmp_path / name / "model.json"
        settings = MODEL_SETTINGS | {"seed": seed}
        torch.rand(3)
        train_network(
            trained / "train.tsv",
            [],
            [],
            trained / "resample_study",
            0,
            settings,
            1,
            "code",
            output,
        )
        digests.append(read_json(output)["digests"]["last"])
    first = trained / "fold-0"
    for name in ("last.safetensors", "best.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (first / name).read_bytes()
        assert (tmp_path / "two" / name).read_bytes() == (first / name).read_bytes()
    assert read_model(tmp_path / "one") == read_model(first)
    assert digests[0] == digests[1] != digests[2]


def read_model(folder: Path) -> dict[str, Any]:
    """model.json without where its inputs lie."""
    model: dict[str, Any] = read_json(folder / "model.json")
    model["origin"]["data"] = sorted(model["origin"]["data"].values())
    return model


def test_two_steps_read_prior_and_boxes(tmp_path: Path, trained: Path) -> None:
    resampled = trained / "resample_study"
    grid = open_arrays(resampled / "a" / "coarse").grid
    coarse = [  # of two other folds
        write_predictions(
            tmp_path / f"fold-{fold}" / "predictions.json",
            grid,
            {study: np.full(grid.shape_zyx, 0.5) for study in studies},
        )
        for fold, studies in ((1, "ab"), (2, "c"))
    ]
    boxes: dict[str, list[Box]] = {"a": [(4, 4, 4, 20, 20, 20)], "b": [], "c": []}
    reference: dict[str, list[Box]] = {"b": [(6, 6, 6, 12, 12, 12)]}
    regions = [write_regions(tmp_path / "regions.json", boxes, reference)]
    settings = MODEL_SETTINGS | {"strategy": BOX_STRATEGY, "training": SHORT}
    output = tmp_path / "out" / "model.json"
    train_network(trained / "train.tsv", coarse, regions, resampled, 0, settings, 1, "code", output)
    model = read_json(output)
    assert model["in_channels"] == 3
    weights = load_file(output.parent / "last.safetensors")
    first = next(w for name, w in weights.items() if name.endswith("conv.weight"))
    assert first.shape[1] == 3


def test_the_held_out_fold_is_refused(tmp_path: Path, trained: Path) -> None:
    cohort = write_cohort(tmp_path / "train.tsv", {"a": 1, "b": 0})
    output = tmp_path / "model.json"
    with pytest.raises(
        (PetctError, ValueError), match=r"train\.tsv: lists studies of the held-out fold 0"
    ):
        train_network(
            cohort, [], [], trained / "resample_study", 0, MODEL_SETTINGS, 1, "code", output
        )
    assert not output.exists()


def command_line(trained: Path, output: Path, settings: dict[str, Any]) -> list[str]:
    arguments = [
        *["--cohort", trained / "train.tsv", "--coarse", "--regions"],
        *["--resampled", trained / "resample_study", "--fold", "0"],
        *["--settings", json.dumps(settings), "--threads", "1"],
        *["--code", "code", "--output", output],
    ]
    return list(map(str, arguments))


def test_command_line(tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "model.json"
    monkeypatch.setattr(sys, "argv", ["x", *command_line(trained, output, MODEL_SETTINGS)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    assert read_model(tmp_path) == read_model(trained / "fold-0")


def test_a_missing_coarse_prediction_stops_with_one_line(
    tmp_path: Path,
    trained: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = MODEL_SETTINGS | {"strategy": BOX_STRATEGY | {"regions": "body"}}
    output = tmp_path / "model.json"
    monkeypatch.setattr(sys, "argv", ["x", *command_line(trained, output, settings)])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert stopped.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: study a has no coarse predictions; these are there: ")
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
