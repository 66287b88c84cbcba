"""Find lesions in the studies that a network was not trained on."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from petct.command_line import exit_on_error
from petct.devices import choose_precision, claim_device
from petct.folds import read_cohort
from petct.inference import (
    Windows,
    hasten_network,
    predict_probability,
    read_parts,
)
from petct.job_state import hold_lock
from petct.manifests import read_json, write_json
from petct.networks import build_network
from petct.predictions import keep_predictions, key_predictions, save_prediction
from petct.prefetching import run_ahead
from petct.sources import open_sources
from petct.trained_models import load_weights


def predict_network(
    cohort: Path,
    model: Path,
    coarse: list[Path],
    regions: list[Path],
    resampled: Path,
    settings: dict[str, Any],
    threads: int,
    code: str,
    output: Path,
) -> None:
    """Write each study's probability and mask below ``output``'s folder, then ``output``.

    ``<study>/probability.npy`` is float16 on the strategy's grid, ``<study>/lesions.nii.gz`` the
    mask on the native PET grid. ``output`` lists them with digests, and that of
    the weights, which lie beside ``model``. Studies that are predicted already, by the same
    ``code`` and from the same, stay.
    """
    torch.set_num_threads(threads)
    fixed = read_json(model)
    digest = fixed["digests"][settings["checkpoint"]]
    studies = read_cohort(cohort)["study"].tolist()
    network = {name: fixed[name] for name in ("strategy", "network", "arguments", "in_channels")}
    network |= {"precision": fixed["training"]["precision"], "torch": torch.__version__}
    keys = key_predictions(
        studies, resampled, coarse, regions, code, [network, settings],
        digest,
    )  # fmt: skip
    with hold_lock(output.parent):
        entries = keep_predictions(output.parent, keys)
        missing = {study: key for study, key in keys.items() if study not in entries}
        if missing:
            with claim_device() as device:
                entries |= predict_studies(
                    missing, fixed, load_weights(model, settings["checkpoint"]),
                    coarse, regions, resampled, settings, device, output.parent,
                )  # fmt: skip
        made_by = {**fixed["experiment"], "fold": fixed["fold"], "weights": digest}
        write_json(output, {**made_by, "studies": entries})


def predict_studies(
    keys: dict[str, str],
    fixed: dict[str, Any],
    weights: dict[str, torch.Tensor],
    coarse: list[Path],
    regions: list[Path],
    resampled: Path,
    settings: dict[str, Any],
    device: torch.device,
    folder: Path,
) -> dict[str, dict[str, Any]]:
    """Predict the studies in ``keys``; their entries of predictions.json.

    ``fixed`` is what model.json says of the network.
    """
    z, y, x = fixed["strategy"]["patch_zyx"]
    window_zyx = (z, y, x)
    network = build_network(
        fixed["network"], fixed["arguments"], fixed["in_channels"], window_zyx, fixed["seed"]
    )
    network.load_state_dict(weights)
    network = hasten_network(network, device)
    windows = Windows(
        size_zyx=window_zyx,
        overlap=settings["overlap"],
        mirrored_axes=tuple(settings["mirroring"]),
        per_batch=settings["windows_per_batch"],
        precision=choose_precision(fixed["training"]["precision"], device),
    )
    sources = open_sources(
        list(keys), resampled, fixed["strategy"], coarse, regions, window_zyx, for_training=False
    )
    entries = {}
    # The next study is read while this one is on the device.
    read = ((study, read_parts(sources[study], windows)) for study in keys)
    for study, parts in run_ahead(read, 1):
        started = time.perf_counter()
        source = sources[study]
        probability = predict_probability(network, parts, source, windows, device)
        entries[study] = save_prediction(
            probability, source.study_grid, read_json(resampled / study / "study.json"),
            settings["threshold"], folder / study, keys[study], len(source.boxes_zyx),
            time.perf_counter() - started,
        )  # fmt: skip
    return entries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cohort", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--coarse", type=Path, nargs="*", required=True)
    parser.add_argument("--regions", type=Path, nargs="*", required=True)
    parser.add_argument("--resampled", type=Path, required=True)
    parser.add_argument("--settings", type=json.loads, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--code", required=True)
    parser.add_argument("--output", type=Path, required=True)
    predict_network(**vars(parser.parse_args()))


if __name__ == "__main__":
    with exit_on_error():
        main()
