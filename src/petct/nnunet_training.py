"""nnU-Net's training, on the pipeline's patients and folds, in folders of the caller's."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from petct.errors import PetctError
from petct.job_state import end_with_parent
from petct.manifests import write_json
from petct.nnunet import CONFIGURATION, claim_folder, nnunet_folders
from petct.nnunet_cases import Case
from petct.nnunet_preprocessing import preprocess
from petct.nnunet_trainer import WorkflowTrainer


@dataclass(frozen=True)
class TrainedNnunet:
    """What nnU-Net's trainer leaves: weights of its last and best epoch, history, size."""

    last: dict[str, torch.Tensor]
    best: dict[str, torch.Tensor]
    history: list[dict[str, float]]
    parameters: int


def train(
    training: dict[str, Case],
    validation: dict[str, Case],
    plans: dict[str, Any],
    dataset: dict[str, Any],
    fingerprint: dict[str, Any],
    settings: dict[str, Any],
    seed: int,
    device: torch.device,
    root: Path,
    key: str,
    threads: int,
    trainer_of: type[WorkflowTrainer] = WorkflowTrainer,
) -> TrainedNnunet:
    """Preprocess the cases and run nnU-Net's trainer on them, in folders below ``root``.

    What a training of the same ``key`` left there, preprocessed cases and the state after its last
    finished epoch, is gone on from; what another left is removed.

    ``settings`` may have ``epochs``, ``steps_per_epoch``, ``validation_steps``,
    ``learning_rate``, ``lesion_share`` (of a batch, patches that hold a lesion) and ``optimiser``
    (sgd, adamw). One thread augments in the training process, and repeats digit by digit; more
    augment in processes of their own, in whatever order they finish.
    Without validation cases nnU-Net watches the training cases. Where processes have joined
    (``petct.processes``), they train together; the first one preprocesses and saves.
    """
    # Augmenting processes would wait for a killed trainer for ever.
    os.register_at_fork(after_in_child=end_with_parent)
    batch = plans["configurations"][CONFIGURATION]["batch_size"]
    several = distributed.is_initialized()
    if several and batch < distributed.get_world_size():
        raise PetctError(
            f"models.<name>.gpus is {distributed.get_world_size()}, but nnU-Net's batch of {batch}"
            " patches cannot be shared by more than that many"
        )
    if not several or distributed.get_rank() == 0:
        claim_folder(root, key)
        preprocess(training | validation, plans, dataset, root, threads)
        preprocessed = root / "preprocessed" / plans["dataset_name"]
        split = {"train": sorted(training), "val": sorted(validation or training)}
        write_json(preprocessed / "splits_final.json", [split])
        write_json(preprocessed / "dataset_fingerprint.json", fingerprint)
    if several:
        distributed.barrier()
    with nnunet_folders(root, threads - 1):
        trainer = trainer_of(
            plans={**plans, "continue_training": False},
            configuration=CONFIGURATION,
            fold=0,
            dataset_json=dataset,
            device=device,
        )
        # nnU-Net takes the first GPU, the one that was claimed may be another.
        trainer.device = device
        trainer.grad_scaler = torch.GradScaler("cuda") if device.type == "cuda" else None
        trainer.seed, trainer.state, trainer.key = seed, root, key
        trainer.adamw = settings.get("optimiser") == "adamw"
        for attribute, key in (
            ("num_epochs", "epochs"),
            ("num_iterations_per_epoch", "steps_per_epoch"),
            ("num_val_iterations_per_epoch", "validation_steps"),
            ("initial_lr", "learning_rate"),
            ("oversample_foreground_percent", "lesion_share"),
        ):
            setattr(trainer, attribute, settings.get(key, getattr(trainer, attribute)))
        trainer.run_training()
    return TrainedNnunet(
        last=trainer.last,
        best=trainer.best,
        history=trainer.list_history(),
        parameters=sum(p.numel() for p in trainer.network.parameters()),
    )
