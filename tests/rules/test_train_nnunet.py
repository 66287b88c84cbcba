"""nnU-Net's training as a job: our patients and no others, the same twice, nothing pickled."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing import forkserver, get_context
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import NNUNET_SETTINGS
from safetensors.torch import load_file

import train_nnunet as script
from array_studies import write_cohort
from petct.errors import PetctError
from petct.manifests import digest_arrays, read_json
from petct.nnunet_trainer import WorkflowTrainer
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
        "lock",
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
    def look(
        output: Path, key: str, description: Any, studies: Any, validating: Any, *_: Any
    ) -> None:
        seen.extend(validating)
        raise InterruptedError

    seen: list[str] = []
    monkeypatch.setattr(script, "save_model", look)
    with pytest.raises(InterruptedError):
        train(planned, trained, tmp_path / "model.json")
    (held_out,) = seen
    preprocessed = tmp_path / "state" / "preprocessed" / "Dataset001_Lesions"
    (split,) = read_json(preprocessed / "splits_final.json")
    assert split["val"] == [f"{held_out}__0"]
    assert split["train"] == sorted(f"{study}__0" for study in {"a", "b", "c"} - {held_out})
    # What is not there cannot train: the held-out fold's study d was never preprocessed.
    cases = {path.stem for path in preprocessed.rglob("*.pkl")}
    assert cases == {"a__0", "b__0", "c__0"}
    assert not list((tmp_path / "state").rglob("*.pth"))


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


@pytest.fixture(scope="module")
def fresh() -> ForkServerContext:
    """Starts forks of a process that has imported all and computed nothing.

    nnU-Net compresses cases by threads; a fork of a process that did so waits for them for ever.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(["conftest", "train_nnunet"])
    with pytest.MonkeyPatch.context() as patch:
        # Another folder of tests has a conftest too.
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))
        forkserver.ensure_running()
    return context


def kill_when(job: ForkServerProcess, condition: Callable[[], bool]) -> None:
    """End a process by SIGKILL as soon as ``condition`` holds."""
    job.start()
    while not condition():
        assert job.is_alive()
        time.sleep(0.001)
    job.kill()
    job.join()
    assert job.exitcode == -signal.SIGKILL


def preprocessed_cases(folder: Path) -> dict[str, int]:
    """The inode of each whole preprocessed case."""
    return {path.name: path.stat().st_ino for path in folder.glob("state/preprocessed/*/*/*.pkl")}


def test_a_killed_training_goes_on_and_ends_with_the_same_weights(
    tmp_path: Path,
    planned: Path,
    trained: Path,
    fresh: ForkServerContext,
    capfd: pytest.CaptureFixture[str],
) -> None:
    training = SHORT | {"epochs": 8, "lesion_share": 0.33}
    settings = {"training": training, "seed": 11}
    whole, killed = tmp_path / "whole" / "model.json", tmp_path / "killed" / "model.json"
    model = train(planned, trained, whole, **settings)
    capfd.readouterr()

    def job() -> ForkServerProcess:
        arguments = (planned, trained, killed)
        return fresh.Process(target=train, args=arguments, kwargs=settings)

    folder = killed.parent
    kill_when(job(), lambda: bool(preprocessed_cases(folder)))
    before = preprocessed_cases(folder)
    assert len(before) < 3
    kill_when(job(), lambda: (folder / "state" / "state.json").exists())
    cases = preprocessed_cases(folder)
    assert len(cases) == 3 and cases | before == cases
    # Half a case and half a state, as a kill in the middle of writing leaves them.
    (folder / "state" / "drafts" / "a__0.b2nd").write_bytes(b"half")
    (folder / "state" / "epoch-2.pt.tmp").write_bytes(b"half")
    kill_when(job(), lambda: (folder / "state" / "epoch-3.pt").exists())
    assert preprocessed_cases(folder) == cases
    assert not killed.exists()
    capfd.readouterr()
    resumed = train(planned, trained, killed, **settings)

    output = capfd.readouterr().out
    assert "3 of 3 cases are preprocessed already" in output
    assert re.search("going on after epoch [2-7] of 8", output)
    assert resumed == model
    for name in ("last.safetensors", "best.safetensors"):
        assert (folder / name).read_bytes() == (whole.parent / name).read_bytes()
    histories = [pd.read_csv(m.with_name("history.tsv"), sep="\t") for m in (whole, killed)]
    for history in histories:
        assert (history.pop("seconds") > 0).all()
    pd.testing.assert_frame_equal(histories[0], histories[1], check_exact=True)
    assert not (folder / "state").exists()

    # Finished: what Snakemake deletes comes back without training.
    killed.unlink()
    stamp = (folder / "last.safetensors").stat().st_mtime_ns
    assert train(planned, trained, killed, **settings) == model
    assert (folder / "last.safetensors").stat().st_mtime_ns == stamp
    assert "nothing to do" in capfd.readouterr().out
    # Other settings have nothing to go on from.
    train(planned, trained, killed, **settings | {"seed": 12})
    assert (folder / "last.safetensors").stat().st_mtime_ns != stamp


def test_more_threads_augment_in_processes_that_end_with_the_training(
    tmp_path: Path, planned: Path, trained: Path
) -> None:
    # Processes of their own: a fork of one that has computed with several threads may hang. Many
    # epochs, so that it still trains when a busy machine gives this test its next turn.
    settings = NNUNET_SETTINGS | {"training": SHORT | {"epochs": 15}}
    arguments = {
        "cohort": trained / "train.tsv",
        "plans": planned / "plans.json",
        "resampled": trained / "resample_study",
        "settings": json.dumps(settings),
        **{"fold": "0", "threads": "2", "code": "code", "output": tmp_path / "model.json"},
    }
    command = [sys.executable, script.__file__, "--coarse", "--regions"]
    command += [f"--{name}={value}" for name, value in arguments.items()]
    job = subprocess.Popen(command)
    # Written last: a kill before it leaves no state to go on from.
    while not (tmp_path / "state" / "state.json").exists():
        assert job.poll() is None
        time.sleep(0.01)
    workers = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
    job.kill()
    assert job.wait() == -signal.SIGKILL
    assert len(workers) >= 2
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert len(preprocessed_cases(tmp_path)) == 3

    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "going on after epoch" in again.stdout
    assert read_json(tmp_path / "model.json")["parameters"] > 0
    losses = pd.read_csv(tmp_path / "history.tsv", sep="\t")["train_loss"]
    assert len(losses) == 15 and np.isfinite(losses).all()


def test_two_processes_share_a_batch_and_go_on_after_a_kill(
    tmp_path: Path, planned: Path, trained: Path, fresh: ForkServerContext
) -> None:
    settings = {"training": SHORT | {"epochs": 3}}

    def start(output: Path, plans: Path = planned) -> list[ForkServerProcess]:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        jobs = [
            fresh.Process(
                target=train_together, args=(rank, port, plans, trained, output, settings)
            )
            for rank in (0, 1)
        ]
        for job in jobs:
            job.start()
        return jobs

    whole, killed = tmp_path / "whole" / "model.json", tmp_path / "killed" / "model.json"
    for job in start(whole):
        job.join()
        assert job.exitcode == 0
    jobs = start(killed)
    while not (killed.parent / "state" / "state.json").exists():
        assert all(job.is_alive() for job in jobs)
        time.sleep(0.001)
    for job in jobs:
        job.kill()
        job.join()
    for job in start(killed):
        job.join()
        assert job.exitcode == 0
    model = read_json(whole)
    assert read_json(killed)["digests"] == model["digests"]
    assert not (killed.parent / "state").exists()
    alone = train(planned, trained, tmp_path / "alone" / "model.json", **settings)
    assert alone["digests"]["last"] != model["digests"]["last"]
    history = pd.read_csv(whole.with_name("history.tsv"), sep="\t")
    assert np.isfinite(history["train_loss"]).all() and len(history) == 3

    small = tmp_path / "plan"
    shutil.copytree(planned, small)
    plan = (small / "plans.json").read_text()
    (small / "plans.json").write_text(plan.replace('"batch_size": 2', '"batch_size": 1'))
    for job in start(tmp_path / "small" / "model.json", small):
        job.join()
        assert job.exitcode == 1
    errors = (tmp_path / "small" / "errors").read_text()
    assert "gpus is 2, but nnU-Net's batch of 1 patches" in errors


def train_together(
    rank: int, port: int, planned: Path, trained: Path, output: Path, settings: dict[str, Any]
) -> None:
    """One of two processes, as torchrun would start it; what it says goes beside ``output``."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with (output.parent / "errors").open("a") as errors:
        os.dup2(errors.fileno(), 2)
    os.environ.update(
        {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"},
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    train_nnunet(
        trained / "train.tsv", planned / "plans.json", [], [], trained / "resample_study", 0,
        NNUNET_SETTINGS | settings, 2, "code", output,
    )  # fmt: skip


def test_a_loss_that_is_no_number_ends_the_training_and_keeps_the_state_before(
    tmp_path: Path, planned: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = WorkflowTrainer.train_step

    def poison(trainer: WorkflowTrainer, batch: dict[str, Any]) -> dict[str, Any]:
        if trainer.current_epoch == 1:
            batch["data"][0, 0, 0, 0, 0] = float("nan")
        return dict(step(trainer, batch))

    training = SHORT | {"epochs": 3, "steps_per_epoch": 1}
    with monkeypatch.context() as context:
        context.setattr(WorkflowTrainer, "train_step", poison)
        words = r"not a number in epoch 2; .*\(0\.01\); the state after epoch 1 is kept in"
        with pytest.raises(PetctError, match=words):
            train(planned, trained, tmp_path / "model.json", training=training)
    assert (tmp_path / "state" / "epoch-1.pt").exists()
    assert not (tmp_path / "model.json").exists()
    train(planned, trained, tmp_path / "model.json", training=training)


def test_stock_settings_are_nnunets(
    tmp_path: Path, planned: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
