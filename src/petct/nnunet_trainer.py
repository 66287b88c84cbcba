"""nnU-Net's trainer with what a workflow needs: repeatable, without pickles, its knobs set.

Nothing else differs from the stock trainer unless a setting says so.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from safetensors.torch import save_file

from petct.devices import copy_weights

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


class WorkflowTrainer(nnUNetTrainer):
    """Set ``seed`` and ``adamw`` and nnU-Net's own attributes before ``run_training``."""

    seed = 0
    adamw = False

    def seed_epoch(self) -> None:
        """nnU-Net draws from the global generators; each epoch starts them anew."""
        entropy = np.random.SeedSequence([self.seed, self.current_epoch]).generate_state(1)[0]
        random.seed(int(entropy))
        np.random.seed(int(entropy))  # noqa: NPY002 - the one that nnU-Net draws from
        torch.manual_seed(int(entropy))

    def initialize(self) -> None:
        self.seed_epoch()
        super().initialize()
        arrange_for_cpu(self.network, self.device)

    def on_train_epoch_start(self) -> None:
        self.seed_epoch()
        super().on_train_epoch_start()

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
        """Weights alone, as safetensors beside where nnU-Net would have pickled its state."""
        network = getattr(self.network, "_orig_mod", self.network)
        assert isinstance(network, torch.nn.Module)
        save_file(copy_weights(network), Path(filename).with_suffix(".safetensors"))

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
