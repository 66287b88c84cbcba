"""Train one network: a model in a strategy, on a cohort, without one fold."""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import monai
import torch

from petct.augmentation import window_to_read
from petct.command_line import exit_on_error
from petct.devices import claim_device
from petct.folds import choose_validation_studies, read_training_studies
from petct.job_state import hold_lock, job_key
from petct.networks import build_network, check_window, expect_few_lesions
from petct.processes import join_processes, tell_all
from petct.provenance import describe_origin, digest_files
from petct.sources import open_sources
from petct.trained_models import restore_model, save_model
from petct.training import train


def train_network(
    cohort: Path,
    coarse: list[Path],
    regions: list[Path],
    resampled: Path,
    fold: int,
    settings: dict[str, Any],
    threads: int,
    code: str,
    output: Path,
) -> None:
    """Write last.safetensors, best.safetensors and history.tsv beside ``output``, then ``output``.

    ``cohort`` lists the studies to train on, none of which is of the fold that is held out.
    ``coarse`` and ``regions`` hold the out-of-fold coarse predictions and boxes of those studies.
    ``code`` is the digest of the code. A training that was killed goes on after its last finished
    epoch, one that was finished is not repeated. Started by torchrun as several processes, each
    takes its share of ``threads`` and of every batch.
    """
    strategy, training, seed = settings["strategy"], settings["training"], settings["seed"]
    z, y, x = strategy["patch_zyx"]
    patch_zyx = (z, y, x)
    read = [cohort, *coarse, *regions]
    versions = [torch.__version__, monai.__version__]
    key = job_key(code, [settings, fold, versions], *read)
    with join_processes() as (rank, processes), ExitStack() as held:
        if rank == 0:
            held.enter_context(hold_lock(output.parent))
        if tell_all(rank == 0 and restore_model(output, key)):
            return
        torch.set_num_threads(max(1, threads // processes))
        studies = read_training_studies(cohort, fold)
        validating = choose_validation_studies(studies, training["validation_share"], seed)
        sources = open_sources(
            studies["study"].tolist(),
            resampled,
            strategy,
            coarse,
            regions,
            at_least_zyx=window_to_read(patch_zyx, training["augmentation"]),
            for_training=True,
        )
        in_channels = 3 if strategy["prior"] else 2
        network = build_network(
            settings["network"], settings["arguments"], in_channels, patch_zyx, seed
        )
        check_window(network, in_channels, patch_zyx)
        expect_few_lesions(network, training["initial_probability"])
        parameters = sum(p.numel() for p in network.parameters())
        training_number = len(set(sources) - set(validating))
        if rank == 0:
            print(
                f"{settings['network']} with {parameters:,} parameters,"
                f" {training_number} studies to train, {len(validating)} to validate",
                flush=True,
            )
        device = held.enter_context(claim_device())
        result = train(
            network,
            [source for study, source in sources.items() if study not in validating],
            [source for study, source in sources.items() if study in validating],
            patch_zyx,
            training,
            seed,
            device,
            report_epoch,
            output.parent / "state",
            key,
            rank,
            processes,
        )
        if rank > 0:
            return
        data = digest_files(read, output.parent)
        description = {
            **settings,
            "fold": fold,
            "in_channels": in_channels,
            "parameters": parameters,
            "precision": " and ".join(result.precisions),
            "best_epoch": result.best_epoch,
            "origin": describe_origin("train_network", code, settings, data, device),
        }
        save_model(
            output, key, description, studies, validating, result.history, result.last, result.best
        )


def report_epoch(row: dict[str, float]) -> None:
    print(
        f"epoch {row['epoch']:3d}  loss {row['train_loss']:.4f}"
        f"  validation loss {row['validation_loss']:.4f}  Dice {row['validation_dice']:.3f}"
        f"  rate {row['learning_rate']:.1e}  {row['seconds']:.1f} s",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cohort", type=Path, required=True)
    parser.add_argument("--coarse", type=Path, nargs="*", required=True)
    parser.add_argument("--regions", type=Path, nargs="*", required=True)
    parser.add_argument("--resampled", type=Path, required=True)
    parser.add_argument("--fold", type=int, required=True)
    parser.add_argument("--settings", type=json.loads, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--code", required=True)
    parser.add_argument("--output", type=Path, required=True)
    train_network(**vars(parser.parse_args()))


if __name__ == "__main__":
    with exit_on_error():
        main()
