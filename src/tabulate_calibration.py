"""Join the bins of all experiments and folds, and sum up how well each experiment is calibrated."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from petct.calibration import bootstrap_calibration_error, calibration_error
from petct.command_line import exit_on_error
from petct.metrics import EXPERIMENT_COLUMNS, read_table
from petct.provenance import save_origin
from petct.statistics import clustered_bootstrap_ratio


def pivot(rows: pd.DataFrame, column: str) -> np.ndarray:
    """A column of an experiment's rows, summed over each patient's studies: (patients, bins)."""
    sums = rows.pivot_table(index="patient", columns="bin_low", values=column, aggfunc="sum")
    return sums.to_numpy(float)


def summarise_experiment(rows: pd.DataFrame, settings: dict[str, Any]) -> dict[str, float]:
    """Every figure of one experiment; see ``tabulate_calibration``."""
    voxels, lesion_voxels = pivot(rows, "voxels"), pivot(rows, "lesion_voxels")
    excess = pivot(rows, "probability_sum") - lesion_voxels
    samples, confidence = settings["bootstrap_samples"], settings["confidence"]

    def summarise_error(name: str, bins: slice) -> dict[str, float]:
        error = calibration_error(excess[:, bins].sum(axis=0), voxels[:, bins].sum(axis=0))
        low, high = bootstrap_calibration_error(
            excess[:, bins],
            voxels[:, bins],
            samples,
            confidence,
            np.random.default_rng(settings["seed"]),
        )
        number = int(voxels[:, bins].sum())
        return {name: float(error), f"{name}_low": low, f"{name}_high": high, f"{name}_n": number}

    def summarise_ratio(name: str, parts: np.ndarray, wholes: np.ndarray) -> dict[str, float]:
        low, high = clustered_bootstrap_ratio(
            parts,
            wholes,
            np.arange(len(parts)),
            samples,
            confidence,
            np.random.default_rng(settings["seed"]),
        )
        number = int(wholes.sum())
        ratio = float(parts.sum() / number) if number else np.nan
        return {name: ratio, f"{name}_low": low, f"{name}_high": high, f"{name}_n": number}

    return {
        "studies": rows["study"].nunique(),
        "patients": len(voxels),
        **summarise_error("ece", slice(None)),
        **summarise_error("ece_suspected", slice(1, None)),
        **summarise_ratio("excess_suspected", excess[:, 1:].sum(axis=1), voxels[:, 1:].sum(axis=1)),
        **summarise_ratio("lesion_unsuspected", lesion_voxels[:, 0], lesion_voxels.sum(axis=1)),
    }


def tabulate_calibration(
    bins: list[Path], settings: dict[str, Any], table: Path, summary: Path
) -> None:
    """Write all rows of ``bins`` to ``table`` and one row per experiment to ``summary``.

    All studies of an experiment are pooled, and voxels count alike. With the lowest bin left out
    ("suspected"), what remains is where the network saw something. In ``summary``:

    - ``ece``: the expected calibration error over the body, ``_n`` its voxels
    - ``ece_suspected``: the same over suspected voxels
    - ``excess_suspected``: their mean probability less the share that is lesion: above 0 the
      network claims too much, below 0 too little
    - ``lesion_unsuspected``: the share of the lesions' voxels that lie in the lowest bin, ``_n``
      these lesions' voxels

    ``_low`` and ``_high`` bound the interval, from resampling patients. Experiments on different
    grids count different voxels. ``settings`` has ``seed``, ``bootstrap_samples`` and
    ``confidence``.
    """
    tables = [read_table(path) for path in bins]
    joined = pd.concat([part for part in tables if len(part)] or tables)
    joined = joined.sort_values([*EXPERIMENT_COLUMNS, "study", "bin_low"])
    rows = [
        dict(zip(EXPERIMENT_COLUMNS, experiment, strict=True))
        | summarise_experiment(part, settings)
        for experiment, part in joined.groupby(EXPERIMENT_COLUMNS)
    ]
    for path, result in ((table, joined), (summary, pd.DataFrame(rows))):
        path.parent.mkdir(parents=True, exist_ok=True)
        result.to_csv(path, sep="\t", index=False, na_rep="nan", float_format="%.10g")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bins", type=Path, nargs="+", required=True, help="tables of bins")
    parser.add_argument(
        "--settings",
        type=json.loads,
        required=True,
        help="JSON: seed, bootstrap_samples, confidence",
    )
    parser.add_argument("--table", type=Path, required=True, help="calibration.tsv")
    parser.add_argument("--summary", type=Path, required=True, help="calibration_summary.tsv")
    parser.add_argument("--code", required=True, help="digest of the code")
    arguments = parser.parse_args()
    tabulate_calibration(arguments.bins, arguments.settings, arguments.table, arguments.summary)
    save_origin(
        arguments.table, "tabulate_calibration", arguments.code, arguments.settings,
        arguments.bins,
    )  # fmt: skip
    save_origin(
        arguments.summary, "tabulate_calibration", arguments.code, arguments.settings,
        arguments.bins,
    )  # fmt: skip


if __name__ == "__main__":
    with exit_on_error():
        main()
