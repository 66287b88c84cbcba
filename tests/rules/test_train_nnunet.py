"""nnU-Net's training as a job: our patients and no others, the same twice, nothing pickled."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import NNUNET_SETTINGS
from safetensors.torch import load_file

import train_nnunet as script
from array_studies import write_cohort
from petct.manifests import digest_arrays, read_json
from train_nnunet import train_nnunet

SHORT = NNUNET_SETTINGS["training"] | {"epochs": 1, "steps_per_epoch": 2, "validation_steps": 1}


def train(
    planned: Path, trained: Path, output: Path, resampled: Path | None = None, **changed: Any
) -> dict[str, Any]:
    """The model's manifest."""
    settings = NNUNET_SETTINGS | {"training": SHORT} | changed
    train_nnunet(
        trained / "train.tsv", planned / "plans.json", [], [],
        resampled or trained / "resample_study", 0, settings, 1, "code", output,
    )  # fmt: skip
    return dict(read_json(output))


def test_weights_history_and_model_are_there(trained_nnunet: Path) -> None:
    assert {path.name for path in trained_nnunet.iterdir()} == {
        "model.json",
        "last.safetensors",
        "best.safetensors",
        "history.tsv",
        "finished.json",
    }
    model = read_json(trained_nnunet / "model.json")
    assert model | NNUNET_SETTINGS == model
    assert (model["fold"], model["in_channels"]) == (0, 2)
    assert model["studies"] == {"a": "d-a", "b": "d-b", "c": "d-c"}
    weights = load_file(trained_nnunet / "last.safetensors")
    assert model["digests"]["last"] == digest_arrays(*(weights[k].numpy() for k in sorted(weights)))
    history = pd.read_csv(trained_nnunet / "history.tsv", sep="\t")
    assert list(history) == [
        *["epoch", "train_loss", "validation_loss", "validation_dice", "learning_rate", "seconds"]
    ]
    assert history["epoch"].tolist() == [1, 2, 3]
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]
    # The polynomial schedule: (1 - epoch / epochs) ** 0.9 of the first rate.
    rate = NNUNET_SETTINGS["training"]["learning_rate"]
    assert history["learning_rate"].tolist() == pytest.approx(
        [rate * (1 - epoch / 3) ** 0.9 for epoch in range(3)]
    )


def test_the_folds_are_ours(
    tmp_path: Path, planned: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "remove_folder", lambda folder: None)
    model = train(planned, trained, tmp_path / "model.json")
    (held_out,) = model["validation_studies"]
    preprocessed = tmp_path / "work" / "preprocessed" / "Dataset001_Lesions"
    (split,) = read_json(preprocessed / "splits_final.json")
    assert split["val"] == [f"{held_out}__0"]
    assert split["train"] == sorted(f"{study}__0" for study in {"a", "b", "c"} - {held_out})
    # What is not there cannot train: the held-out fold's study d was never preprocessed.
    cases = {path.stem for path in preprocessed.rglob("*.pkl")}
    assert cases == {"a__0", "b__0", "c__0"}
    assert not list((tmp_path / "work" / "results").rglob("*.pth"))


def test_nnunet_watches_the_patients_that_other_networks_watch(
    trained: Path, trained_nnunet: Path
) -> None:
    ours = read_json(trained / "fold-0" / "model.json")["validation_studies"]
    assert read_json(trained_nnunet / "model.json")["validation_studies"] == ours


def test_the_same_twice_and_validation_studies_do_not_train(
    tmp_path: Path, planned: Path, trained: Path
) -> None:
    first = train(planned, trained, tmp_path / "one" / "model.json")
    again = train(planned, trained, tmp_path / "two" / "model.json")
    other = train(planned, trained, tmp_path / "three" / "model.json", seed=5)
    assert first["digests"] == again["digests"]
    assert first["digests"]["last"] != other["digests"]["last"]

    (held_out,) = first["validation_studies"]
    resampled = tmp_path / "resample_study"
    shutil.copytree(trained / "resample_study", resampled)
    image = np.load(resampled / held_out / "fine" / "image.npy")
    np.save(resampled / held_out / "fine" / "image.npy", image[:, ::-1])
    changed = train(planned, trained, tmp_path / "four" / "model.json", resampled)
    assert changed["digests"]["last"] == first["digests"]["last"]


def test_more_threads_preprocess_and_augment_in_processes_of_their_own(
    tmp_path: Path, planned: Path, trained: Path
) -> None:
    output = tmp_path / "model.json"
    train_nnunet(
        trained / "train.tsv", planned / "plans.json", [], [], trained / "resample_study", 0,
        NNUNET_SETTINGS | {"training": SHORT}, 2, "code", output,
    )  # fmt: skip
    assert read_json(output)["parameters"] > 0
    assert np.isfinite(pd.read_csv(tmp_path / "history.tsv", sep="\t")["train_loss"]).all()


def test_stock_settings_are_nnunets(
    tmp_path: Path, planned: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from petct.nnunet_trainer import WorkflowTrainer

    seen: dict[str, Any] = {}

    def look(trainer: WorkflowTrainer) -> None:
        trainer.initialize()
        seen.update(vars(trainer))
        raise InterruptedError

    monkeypatch.setattr(WorkflowTrainer, "run_training", look)
    with pytest.raises(InterruptedError):
        train(planned, trained, tmp_path / "model.json", training={"validation_share": 0.34})
    assert (seen["num_epochs"], seen["num_iterations_per_epoch"]) == (1000, 250)
    assert (seen["num_val_iterations_per_epoch"], seen["initial_lr"]) == (50, 0.01)
    assert seen["oversample_foreground_percent"] == 0.33
    assert type(seen["optimizer"]).__name__ == "SGD"
    assert seen["optimizer"].defaults["momentum"] == 0.99


def test_studies_of_the_held_out_fold_are_refused(
    tmp_path: Path, planned: Path, trained: Path
) -> None:
    cohort = write_cohort(tmp_path / "train.tsv", {"a": 1, "d": 0})
    with pytest.raises(ValueError, match="held-out fold 0"):
        train_nnunet(
            cohort, planned / "plans.json", [], [], trained / "resample_study", 0,
            NNUNET_SETTINGS, 1, "code", tmp_path / "model.json",
        )  # fmt: skip
