"""Let nnU-Net look at the training studies of one fold and plan its network and preprocessing."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from petct.command_line import exit_on_error
from petct.folds import read_training_studies
from petct.manifests import digest_arrays, write_json
from petct.nnunet import CONFIGURATION, plan, remove_folder
from petct.nnunet_cases import list_cases


def plan_nnunet(
    cohort: Path,
    coarse: list[Path],
    regions: list[Path],
    resampled: Path,
    fold: int,
    settings: dict[str, Any],
    threads: int,
    output: Path,
) -> None:
    """Write nnU-Net's plans, dataset.json and fingerprint.json beside ``output`` (plans.json).

    Only the studies in ``cohort`` are looked at, none of which is of the held-out fold: what
    nnU-Net takes from its data (intensities of lesions, sizes) is no leak.
    """
    strategy = settings["strategy"]
    studies = read_training_studies(cohort, fold)
    cases = list_cases(
        studies["study"].tolist(), resampled, strategy, coarse, regions, for_training=True
    )
    work = output.parent / "work"
    remove_folder(work)
    plans, dataset, fingerprint = plan(cases, strategy, settings["arguments"], work, threads)
    remove_folder(work)
    write_json(output.parent / "dataset.json", dataset)
    write_json(output.parent / "fingerprint.json", fingerprint)
    write_json(output, plans | {"inputs": digest_arrays(geometry=[dataset, fingerprint])})
    chosen = plans["configurations"][CONFIGURATION]
    network = chosen["architecture"]
    print(
        f"planned on {len(cases)} cases of {len(studies)} studies: patch {chosen['patch_size']},"
        f" batch {chosen['batch_size']}, {network['network_class_name'].rsplit('.', 1)[-1]} with"
        f" features {network['arch_kwargs']['features_per_stage']}"
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
    parser.add_argument("--output", type=Path, required=True)
    plan_nnunet(**vars(parser.parse_args()))


if __name__ == "__main__":
    with exit_on_error():
        main()
