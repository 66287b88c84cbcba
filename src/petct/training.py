"""Training one network: batches, loss, schedule, validation, and going on after a kill.

All that an epoch draws at random comes from (seed, epoch), never from what ran before, so it is
the same whether or not the training was interrupted before it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.losses.dice import DiceFocalLoss
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts

from petct.augmentation import (
    Change,
    augment_with_torchio,
    check_definition,
    draw_change,
    window_to_read,
)
from petct.devices import choose_precision, copy_weights
from petct.errors import PetctError
from petct.grids import Index
from petct.normalisation import arrange_training
from petct.patches import (
    Source,
    cut_window,
    draw_patch,
    draw_start,
    image_of,
    read_part,
    stack_images,
)
from petct.prefetching import run_ahead
from petct.processes import gather_batch, share_network
from petct.sampling import change_patch, find_part, place_patch
from petct.training_state import TrainingState, load_state, save_state

# Random streams that must not meet.
_TRAINING, _VALIDATION, _NETWORK, _CHANGES = 0, 1, 2, 3
# Batches that are read while a GPU computes.
_BATCHES_AHEAD = 3
# Of the time, what saving may take.
_SAVING_SHARE = 0.1
_CPU = torch.device("cpu")


def train(
    network: torch.nn.Module,
    sources: list[Source],
    validation: list[Source],
    patch_zyx: Index,
    settings: dict[str, Any],
    seed: int,
    device: torch.device,
    report: Callable[[dict[str, float]], None],
    state_folder: Path,
    key: str,
    rank: int = 0,
    processes: int = 1,
    passed: Callable[[], float] | None = None,
) -> TrainingState:
    """Train ``network`` in place; ``settings`` is the config's section training.

    ``report`` gets each epoch's row: epoch, train_loss, validation_loss, validation_dice,
    learning_rate, seconds. Validation is over fixed patches; without validation studies its
    columns are NaN and the best epoch is the last. After each epoch its state is saved in
    ``state_folder``, from which a training of the same ``key`` goes on; not after each where that
    would take a tenth of the time.

    Of several ``processes`` (``petct.processes``) each computes its share of every batch; the loss
    is over the whole batch, and the weights are the same in all. The one of ``rank`` 0 validates,
    reports and saves.

    ``passed``, looked at before each step, says which share of a time limit is over: it then
    sets the learning rate, as the share of one annealing, and ends the epoch when it reaches 1.
    How much was learnt hangs on the machine then, so that only measurements of speed give it, of
    one epoch, on one process.
    Raises PetctError when the loss is not a number (the state saved before is then kept), or when
    a batch has no equal shares.
    """
    if settings["batch_size"] % processes:
        raise PetctError(
            f"training.batch_size is {settings['batch_size']}, which {processes} GPUs cannot share"
            " equally; change it or models.*.gpus"
        )
    arrange_training(network, device, settings["compile"])
    loss_of = DiceFocalLoss(sigmoid=True, **settings["loss"])
    parameters = list(network.parameters())
    optimiser = torch.optim.Adam(parameters, lr=settings["learning_rate"], fused=True)
    schedule = CosineAnnealingWarmRestarts(
        optimiser, T_0=settings["restart_epochs"], eta_min=settings["minimum_learning_rate"]
    )
    precision = choose_precision(settings["precision"], device)
    in_words = str(precision).removeprefix("torch.")
    if rank == 0:
        print(f"computing in {in_words}", flush=True)
    fixed = list(draw_validation(validation if rank == 0 else [], patch_zyx, settings, seed))
    steps = settings["steps_per_epoch"]
    state = load_state(state_folder, key)
    if state is None:
        state = TrainingState(0, {}, {}, {}, settings["epochs"], math.inf, [], [])
    else:
        if rank == 0:
            print(f"going on after epoch {state.epoch} of {settings['epochs']}", flush=True)
        network.load_state_dict(state.last)
        optimiser.load_state_dict(state.optimiser)
    shared = share_network(network, device) if processes > 1 else network
    if settings["compile"]:
        shared = torch.compile(shared)  # type: ignore[assignment]
    saved_epoch, saved_at, saving_s = state.epoch, time.perf_counter(), 0.0
    precisions = sorted({*state.precisions, in_words})
    for epoch in range(state.epoch + 1, settings["epochs"] + 1):
        started = time.perf_counter()
        network.train()
        total, watched = torch.zeros((), device=device), torch.zeros(steps, device=device)
        done = 0
        batches = draw_batches(sources, patch_zyx, settings, seed, epoch, rank, processes, device)
        stream = [seed, _NETWORK, epoch, *([rank] if rank else [])]
        with torch.random.fork_rng():
            # Dropout draws from torch's global generator: borrow it, leave it as it was.
            torch.manual_seed(int(np.random.default_rng(stream).integers(2**62)))
            for place, (images, labels) in enumerate(batches):
                step = (epoch - 1) * steps + place
                share = passed() if passed else 0.0
                if share >= 1.0:
                    break
                schedule.step(share * settings["restart_epochs"] if passed else step / steps)
                warmth = min(1.0, (step + 1) / max(1, settings["warmup_steps"]))
                for group in optimiser.param_groups:
                    group["lr"] *= warmth
                with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                    logits = shared(images.to(device, non_blocking=True))
                logits, labels = logits.float(), labels.to(device, non_blocking=True)
                if processes > 1:
                    logits, labels = gather_batch(logits), gather_batch(labels)
                loss = loss_of(logits, labels)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                norm = torch.nn.utils.clip_grad_norm_(parameters, 12.0, foreach=True)
                optimiser.step()
                total += loss.detach()
                watched[place] = loss.detach() + norm
                done += 1
        # Looked at here: looking in each step would make it wait for the device.
        if not watched.isfinite().all():
            kept = f"the state after epoch {saved_epoch} is kept in {state_folder}"
            raise PetctError(
                "the loss or its gradient is not a number in step"
                f" {1 + int(watched.isfinite().int().argmin())} of epoch {epoch}; lower"
                f" training.learning_rate ({settings['learning_rate']}) or set training.precision"
                f" to float32; {kept if saved_epoch else 'no epoch was finished before'}"
            )
        row = {
            "epoch": epoch,
            "train_loss": float(total) / max(1, done),
            **validate(network, fixed, loss_of, precision, device),
            "learning_rate": optimiser.param_groups[0]["lr"],
            "seconds": time.perf_counter() - started,
        }
        last = copy_weights(network)
        best, best_epoch, best_loss = state.best, state.best_epoch, state.best_loss
        if row["validation_loss"] < best_loss:
            best, best_epoch, best_loss = last, epoch, row["validation_loss"]
        state = TrainingState(
            epoch, last, optimiser.state_dict(), best, best_epoch, best_loss,
            [*state.history, row], precisions,
        )  # fmt: skip
        if rank > 0:
            continue
        report(row)
        finished_at = time.perf_counter()
        if saving_s <= _SAVING_SHARE * (finished_at - saved_at):
            save_state(state_folder, key, state)
            saved_epoch, saved_at = epoch, time.perf_counter()
            saving_s = saved_at - finished_at
    return replace(state, best=state.best or state.last)


def draw_batches(
    sources: list[Source],
    patch_zyx: Index,
    settings: dict[str, Any],
    seed: int,
    epoch: int,
    rank: int = 0,
    processes: int = 1,
    device: torch.device = _CPU,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """An epoch's augmented batches: images (B, C, Z, Y, X) and labels (B, 1, Z, Y, X), float32.

    Of each batch, ``lesion_share`` (rounded up) are patches around lesions, from studies that
    have some; ``uptake_share`` (rounded down) around what is as hot and no lesion; the others
    come from anywhere. The latter two come from any study, lesion-free ones included. Of several
    processes each gets the part of the same batches that is its own, and reads no other; TorchIO,
    whose random numbers cannot be drawn ahead, needs them all.

    They are augmented on the ``device`` that trains; on a GPU the next batches are read meanwhile.
    TorchIO augments on the CPU.
    """
    augmentation = settings["augmentation"]
    window_zyx = window_to_read(patch_zyx, augmentation)
    generator = np.random.default_rng([seed, _TRAINING, epoch])
    share = settings["batch_size"] // processes
    own = range(rank * share, (rank + 1) * share)
    places = _draw_places(sources, window_zyx, settings, generator)
    if settings["augmentation_engine"] == "torchio":
        for batch in places:
            images, labels = augment_with_torchio(
                [cut_window(source, start_zyx, window_zyx) for source, start_zyx in batch],
                patch_zyx,
                augmentation,
                int(generator.integers(2**62)),
            )
            yield images[own.start : own.stop], labels[own.start : own.stop]
        return
    check_definition(augmentation)
    spacing = sources[0].grid.spacing_zyx_mm

    def read_batches() -> Iterator[list[_Part]]:
        for step, batch in enumerate(places):
            parts = []
            for place in own:
                source, start_zyx = batch[place]
                own_generator = np.random.default_rng([seed, _CHANGES, epoch, step, place])
                change = draw_change(augmentation, window_zyx, spacing, own_generator)
                parts.append(_read(source, start_zyx, window_zyx, patch_zyx, change, device))
            yield parts

    batches = read_batches()
    for parts in run_ahead(batches, _BATCHES_AHEAD) if device.type == "cuda" else batches:
        images = torch.empty((len(parts), len(parts[0].channels), *patch_zyx), device=device)
        labels = torch.empty((len(parts), 1, *patch_zyx), device=device)
        for part, image, label in zip(parts, images, labels, strict=True):
            channels = [channel.to(device, non_blocking=True) for channel in part.channels]
            mask = part.label.to(device, non_blocking=True)
            change_patch(channels, mask, part.centre_zyx, part.change, image, label)
        yield images, labels


@dataclass(frozen=True)
class _Part:
    """What a patch is made from: channels and label (Z, Y, X), its centre there, its change."""

    channels: list[torch.Tensor]
    label: torch.Tensor
    centre_zyx: np.ndarray
    change: Change


def _draw_places(
    sources: list[Source],
    window_zyx: Index,
    settings: dict[str, Any],
    generator: np.random.Generator,
) -> Iterator[list[tuple[Source, Index]]]:
    """Each batch of an epoch as studies and where in them a window starts."""
    with_lesions = [source for source in sources if len(source.lesion_voxels)]
    size = settings["batch_size"]
    around_lesions = math.ceil(settings["lesion_share"] * size)
    around_uptake = math.floor(settings["uptake_share"] * size)
    for _ in range(settings["steps_per_epoch"]):
        batch = []
        for place in range(size):
            pool = with_lesions if place < around_lesions else sources
            source = pool[int(generator.integers(len(pool)))]
            if place < around_lesions:
                voxels = source.lesion_voxels
            elif place < around_lesions + around_uptake:
                voxels = source.uptake_voxels
            else:
                voxels = source.uptake_voxels[:0]
            batch.append((source, draw_start(source, window_zyx, voxels, generator)))
        yield batch


def _read(
    source: Source,
    start_zyx: Index,
    window_zyx: Index,
    patch_zyx: Index,
    change: Change,
    device: torch.device,
) -> _Part:
    """What a change needs of a study; for a GPU in memory from which it is fetched on the side."""
    centre_zyx = place_patch(start_zyx, window_zyx, patch_zyx)
    first, shape = find_part(change, centre_zyx, patch_zyx, source.grid.shape_zyx)
    channels, label = read_part(source, first, shape)
    if device.type == "cuda":
        channels = [channel.contiguous().pin_memory() for channel in channels]
        label = label.contiguous().pin_memory()
    return _Part(channels, label, centre_zyx - np.array(first), change)


def draw_validation(
    sources: list[Source], patch_zyx: Index, settings: dict[str, Any], seed: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Fixed patches, not augmented, from the studies in turn: at lesions and hot organs in turn."""
    generator = np.random.default_rng([seed, _VALIDATION])
    for number in range(settings["validation_patches"] if sources else 0):
        source = sources[number % len(sources)]
        at_lesion = (number // len(sources)) % 2 == 0
        voxels = source.lesion_voxels if at_lesion else source.uptake_voxels
        patch = draw_patch(source, patch_zyx, voxels, generator)
        yield stack_images(patch)[None], image_of(patch, "label")[None]


def validate(
    network: torch.nn.Module,
    patches: list[tuple[torch.Tensor, torch.Tensor]],
    loss_of: torch.nn.Module,
    precision: torch.dtype,
    device: torch.device,
) -> dict[str, float]:
    """Mean loss over patches, and Dice of all their voxels together at probability 0.5."""
    if not patches:
        return {"validation_loss": float("nan"), "validation_dice": float("nan")}
    network.eval()
    images, labels = (torch.cat(part) for part in zip(*patches, strict=True))
    losses, both, either = [], 0.0, 0.0
    with torch.inference_mode():
        for image, label in zip(images.split(4), labels.split(4), strict=True):
            label = label.to(device)
            with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                logits = network(image.to(device)).float()
            losses.append(float(loss_of(logits, label)))
            found = logits > 0
            both += float((found & (label > 0)).sum())
            either += float(found.sum() + label.sum())
    return {
        "validation_loss": float(np.mean(losses)),
        "validation_dice": 2 * both / either if either else float("nan"),
    }
