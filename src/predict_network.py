"""Find lesions in the studies that a network was not trained on."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load_file

from petct.command_line import exit_on_error
from petct.devices import choose_device, choose_precision
from petct.inference import predict_probability
from petct.manifests import read_json, write_json
from petct.networks import build_network
from petct.predictions import save_prediction
from petct.sources import open_sources


def predict_network(
    cohort: Path,
    model: Path,
    weights: Path,
    coarse: list[Path],
    regions: list[Path],
    resampled: Path,
    settings: dict[str, Any],
    threads: int,
    output: Path,
) -> None:
    """Write each study's probability and mask below ``output``'s folder, then ``output``.

    ``<study>/probability.npy`` is float16 on the strategy's grid, ``<study>/lesions.nii.gz`` the
    mask on the native PET grid. ``output`` lists them with digests.
    """
    torch.set_num_threads(threads)
    fixed = read_json(model)
    z, y, x = fixed["strategy"]["patch_zyx"]
    window_zyx = (z, y, x)
    device = choose_device()
    network = build_network(
        fixed["network"], fixed["arguments"], fixed["in_channels"], window_zyx, fixed["seed"]
    )
    network.load_state_dict(load_file(weights))
    network.to(device).eval()
    precision = choose_precision(fixed["training"]["precision"], device)
    table = pd.read_csv(cohort, sep="\t", dtype={"study": str}, keep_default_na=False)
    studies = table["study"].tolist()
    entries = {}
    sources = open_sources(
        studies, resampled, fixed["strategy"], coarse, regions, window_zyx, for_training=False
    )
    for study, source in sources.items():
        started = time.perf_counter()
        probability = predict_probability(
            network,
            source,
            window_zyx,
            settings["overlap"],
            settings["windows_per_batch"],
            precision,
            device,
        )
        entries[study] = save_prediction(
            probability, source.study_grid, read_json(resampled / study / "study.json"),
            settings["threshold"], output.parent / study, len(source.boxes_zyx),
            time.perf_counter() - started,
        )  # fmt: skip
    write_json(output, {**fixed["experiment"], "fold": fixed["fold"], "studies": entries})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cohort", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--coarse", type=Path, nargs="*", required=True)
    parser.add_argument("--regions", type=Path, nargs="*", required=True)
    parser.add_argument("--resampled", type=Path, required=True)
    parser.add_argument("--settings", type=json.loads, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--output", type=Path, required=True)
    predict_network(**vars(parser.parse_args()))


if __name__ == "__main__":
    with exit_on_error():
        main()
