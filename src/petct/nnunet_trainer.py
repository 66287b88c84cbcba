"""nnU-Net's trainer with what a workflow needs: repeatable, going on after a kill, its knobs set.

Nothing else differs from the stock trainer unless a setting says so.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import nnunetv2.training.nnUNetTrainer.nnUNetTrainer as stock
import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from nnunetv2.training.logging.nnunet_logger import LocalLogger
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch.nn.parallel import DistributedDataParallel

from petct.devices import copy_weights
from petct.errors import PetctError
from petct.training_state import read_state, write_state

# CT and SUV; a third channel is the coarse probability.
IMAGE_CHANNELS = 2


class OnImageChannels(BasicTransform):
    """An intensity transform for CT and SUV alone: a probability has no contrast to vary."""

    def __init__(self, transform: BasicTransform) -> None:
        super().__init__()
        self.transform = transform

    def apply(self, data_dict: dict[str, Any], **_: Any) -> dict[str, Any]:
        image = data_dict["image"]
        changed = self.transform(image=image[:IMAGE_CHANNELS])["image"]
        return data_dict | {"image": torch.cat([changed, image[IMAGE_CHANNELS:]])}


def arrange_for_cpu(network: torch.nn.Module | None, device: torch.device) -> None:
    """Channels last is the layout that a CPU convolves in: a third faster, the same sums."""
    if network is not None and device.type == "cpu":
        network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]


def share_gradients(network: torch.nn.Module, device_ids: list[int]) -> DistributedDataParallel:
    """The network as one of several processes; nnU-Net would say that the n-th has the n-th GPU."""
    device = next(network.parameters()).device
    arrange_for_cpu(network, device)
    return DistributedDataParallel(network, None if device.type == "cpu" else [device])


stock.DDP = share_gradients


class Record(LocalLogger):
    """nnU-Net's record of its epochs, without the picture that it draws anew after each."""

    def plot_progress_png(self, output_folder: str) -> None:
        pass


class WorkflowTrainer(nnUNetTrainer):
    """Set ``seed``, ``adamw``, ``state`` and nnU-Net's own attributes before ``run_training``.

    ``state`` is the folder in which each epoch leaves what the next one goes on from, ``key`` the
    job's (``petct.job_state``). After training, ``last`` and ``best`` are the weights.
    """

    seed = 0
    adamw = False
    state = Path()
    key = ""
    last: dict[str, torch.Tensor]
    best: dict[str, torch.Tensor]

    def seed_epoch(self) -> None:
        """nnU-Net draws from the global generators; each epoch starts them anew.

        Of several processes each draws patches of its own.
        """
        stream = [self.seed, self.current_epoch, *([self.local_rank] if self.local_rank else [])]
        entropy = np.random.SeedSequence(stream).generate_state(1)[0]
        random.seed(int(entropy))
        np.random.seed(int(entropy))  # noqa: NPY002 - the one that nnU-Net draws from
        torch.manual_seed(int(entropy))

    def initialize(self) -> None:
        self.seed_epoch()
        self.logger.local_logger = Record()
        super().initialize()
        arrange_for_cpu(self.network, self.device)

    def on_train_start(self) -> None:
        super().on_train_start()
        values = read_state(self.state, self.key)
        if values is not None:
            self.set_state(values)
            done = f"{self.current_epoch} of {self.num_epochs}"
            self.print_to_log_file(f"going on after epoch {done}")

    def on_train_epoch_start(self) -> None:
        self.seed_epoch()
        super().on_train_epoch_start()

    def on_train_epoch_end(self, train_outputs: list[dict[str, Any]]) -> None:
        """Raises PetctError when a weight or a loss is not a number.

        On a GPU, where nnU-Net scales gradients, it skips steps whose loss is none: weights alone
        count.
        """
        super().on_train_epoch_end(train_outputs)
        whole = all(bool(w.isfinite().all()) for w in self.plain_network.parameters())
        # The logged mean is over all processes, which so decide alike.
        numbers = np.isfinite(self.logger.get_value("train_losses", step=-1))
        if not whole or not (numbers or self.grad_scaler):
            kept = f"the state after epoch {self.current_epoch} is kept in {self.state}"
            raise PetctError(
                f"the loss is not a number in epoch {self.current_epoch + 1}; lower"
                f" training.learning_rate of the model ({self.initial_lr});"
                f" {kept if self.current_epoch else 'no epoch was finished before'}"
            )

    def on_epoch_end(self) -> None:
        super().on_epoch_end()
        if self.local_rank == 0:
            write_state(self.state, self.key, self.current_epoch, self.get_state())

    @property
    def plain_network(self) -> torch.nn.Module:
        """The network without what compiles it and what spreads it over processes."""
        network = self.network.module if self.is_ddp else self.network
        network = getattr(network, "_orig_mod", network)
        assert isinstance(network, torch.nn.Module)
        return network

    def get_state(self) -> dict[str, Any]:
        """What ``set_state`` needs to go on: tensors and plain values."""
        return {
            "epoch": self.current_epoch,
            "last": copy_weights(self.plain_network),
            "best": self.best,
            "best_ema": _to_tensors(self._best_ema),
            "optimiser": self.optimizer.state_dict(),
            "grad_scaler": self.grad_scaler.state_dict() if self.grad_scaler else None,
            "log": _to_tensors(self.logger.get_checkpoint()),
        }

    def set_state(self, values: dict[str, Any]) -> None:
        self.current_epoch = values["epoch"]
        self.plain_network.load_state_dict(values["last"])
        self.best = values["best"]
        self._best_ema = _from_tensors(values["best_ema"])
        self.optimizer.load_state_dict(values["optimiser"])
        if self.grad_scaler and values["grad_scaler"]:
            self.grad_scaler.load_state_dict(values["grad_scaler"])
        self.logger.load_checkpoint(_from_tensors(values["log"]))

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, Any]:
        if not self.adamw:
            optimizer, schedule = super().configure_optimizers()
            return optimizer, schedule
        adamw = torch.optim.AdamW(
            self.network.parameters(), self.initial_lr, weight_decay=self.weight_decay
        )
        return adamw, PolyLRScheduler(adamw, self.initial_lr, self.num_epochs)

    def get_training_transforms(self, *arguments: Any, **settings: Any) -> BasicTransform:
        composed = nnUNetTrainer.get_training_transforms(*arguments, **settings)
        # Intensity transforms stand wrapped in a probability; spatial ones and mirroring do not.
        for place, transform in enumerate(composed.transforms):
            if isinstance(transform, RandomTransform):
                inner = transform.transform
                if isinstance(inner, GaussianBlurTransform):
                    # It times two ways of blurring and takes the faster: not repeatable.
                    inner.benchmark = False
                composed.transforms[place] = OnImageChannels(transform)
        return composed

    def save_checkpoint(self, filename: str) -> None:
        """Keep the weights, of which nnU-Net would pickle best, latest and final ones."""
        if filename.endswith("checkpoint_best.pth"):
            self.best = copy_weights(self.plain_network)
        elif filename.endswith("checkpoint_final.pth"):
            self.last = copy_weights(self.plain_network)

    def plot_network_architecture(self) -> None:
        """nnU-Net would look for a drawing library that no longer works."""

    def list_history(self) -> list[dict[str, float]]:
        """Each epoch's row as the other networks' history has it.

        ``validation_dice`` is nnU-Net's pseudo Dice: over the voxels of validation patches.
        """
        log = self.logger.get_checkpoint()
        columns = {
            "train_loss": log["train_losses"],
            "validation_loss": log["val_losses"],
            "validation_dice": log["mean_fg_dice"],
            "learning_rate": log["lrs"],
            "seconds": np.subtract(log["epoch_end_timestamps"], log["epoch_start_timestamps"]),
        }
        return [
            {"epoch": epoch, **{name: float(column[epoch - 1]) for name, column in columns.items()}}
            for epoch in range(1, self.num_epochs + 1)
        ]


def _to_tensors(value: Any) -> Any:
    """NumPy's numbers, of which nnU-Net's log is made, as tensors: of the same type and digits."""
    if isinstance(value, dict):
        return {name: _to_tensors(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_to_tensors(part) for part in value]
    return torch.from_numpy(np.asarray(value)) if isinstance(value, np.generic) else value


def _from_tensors(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _from_tensors(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_from_tensors(part) for part in value]
    return value.numpy()[()] if isinstance(value, torch.Tensor) else value
