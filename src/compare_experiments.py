"""Compare the experiments: one row each, every mean with its interval and its denominator."""

from __future__ import annotations

import argparse
import json
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from petct.command_line import exit_on_error
from petct.errors import PetctError
from petct.metrics import EXPERIMENT_COLUMNS, read_table
from petct.statistics import clustered_bootstrap, clustered_bootstrap_ratio

PRINTED_COLUMNS = [
    *EXPERIMENT_COLUMNS,
    *["Dice", "n", "FN mL", "FP+ mL", "lesions found", "FP- mL", "false alarms"],
]


def summarise_mean(
    name: str, rows: pd.DataFrame, column: str, settings: dict[str, Any]
) -> dict[str, float]:
    """Mean, median, interval and n of one column over the rows in which it is defined."""
    rows = rows[rows[column].notna()]
    values = rows[column].to_numpy(float)
    low, high = clustered_bootstrap(
        values,
        rows["patient"].to_numpy(),
        settings["bootstrap_samples"],
        settings["confidence"],
        # Begun anew for each interval: the same patients give the same resamples, so that
        # experiments differ by their predictions and not by the draw.
        np.random.default_rng(settings["seed"]),
    )
    return {
        f"{name}_mean": float(values.mean()) if len(values) else np.nan,
        f"{name}_median": float(np.median(values)) if len(values) else np.nan,
        f"{name}_low": low,
        f"{name}_high": high,
        f"{name}_n": len(values),
    }


def summarise_share(
    name: str,
    rows: pd.DataFrame,
    parts: np.ndarray,
    wholes: np.ndarray,
    settings: dict[str, Any],
) -> dict[str, float]:
    """sum(parts) / sum(wholes) pooled over all rows, its interval, and n = sum(wholes)."""
    low, high = clustered_bootstrap_ratio(
        parts,
        wholes,
        rows["patient"].to_numpy(),
        settings["bootstrap_samples"],
        settings["confidence"],
        np.random.default_rng(settings["seed"]),
    )
    whole = int(wholes.sum())
    return {
        name: float(parts.sum() / whole) if whole else np.nan,
        f"{name}_low": low,
        f"{name}_high": high,
        f"{name}_n": whole,
    }


def summarise_experiment(rows: pd.DataFrame, settings: dict[str, Any]) -> dict[str, float]:
    """Every figure of one experiment's studies; see ``compare_experiments``."""
    positive, negative = rows[rows["positive"]], rows[~rows["positive"]]
    return {
        "studies": len(rows),
        "patients": rows["patient"].nunique(),
        **summarise_mean("dice", positive, "dice", settings),
        **summarise_mean("fn_volume_ml", positive, "fn_volume_ml", settings),
        **summarise_mean("positive_fp_volume_ml", positive, "fp_volume_ml", settings),
        **summarise_mean("negative_fp_volume_ml", negative, "fp_volume_ml", settings),
        **summarise_share(
            "negative_false_alarm_rate",
            negative,
            (negative["predicted_ml"] > 0).to_numpy(float),
            np.ones(len(negative)),
            settings,
        ),
        **summarise_share(
            "lesion_sensitivity",
            rows,
            rows["lesions_found"].to_numpy(float),
            rows["lesions_reference"].to_numpy(float),
            settings,
        ),
        **summarise_share(
            "lesion_precision",
            rows,
            (rows["lesions_predicted"] - rows["lesions_false"]).to_numpy(float),
            rows["lesions_predicted"].to_numpy(float),
            settings,
        ),
    }


def readable_row(row: dict[Hashable, Any]) -> list[str]:
    """One experiment's cells of the printed table, in the order of ``PRINTED_COLUMNS``."""

    def number(name: str, digits: int) -> str:
        return "-" if np.isnan(row[name]) else f"{row[name]:.{digits}f}"

    def count(name: str) -> str:
        whole = row[f"{name}_n"]
        return f"{round(row[name] * whole)} of {whole}" if whole else "-"

    interval = f" ({row['dice_low']:.2f} to {row['dice_high']:.2f})" if row["dice_low"] >= 0 else ""
    return [
        *(str(row[column]) for column in EXPERIMENT_COLUMNS),
        number("dice_mean", 3) + interval,
        str(row["dice_n"]),
        number("fn_volume_ml_mean", 1),
        number("positive_fp_volume_ml_mean", 1),
        count("lesion_sensitivity"),
        number("negative_fp_volume_ml_mean", 1),
        count("negative_false_alarm_rate"),
    ]


def readable_table(comparison: pd.DataFrame, confidence: float) -> str:
    """The comparison in a few columns of plain text, with denominators."""
    lines = [PRINTED_COLUMNS, *(readable_row(row) for row in comparison.to_dict("records"))]
    widths = [max(len(line[i]) for line in lines) for i in range(len(PRINTED_COLUMNS))]
    lines.insert(1, ["-" * width for width in widths])
    text = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join(
        [
            *text,
            "",
            f"Dice: mean over the n studies with lesions ({confidence:.0%} interval, patients "
            "resampled).",
            "FN, FP+: mean volume missed and volume falsely marked in those studies.",
            "FP-, false alarms: mean volume falsely marked in the studies without lesions, and how "
            "many",
            "of them have any.",
        ]
    )


def compare_experiments(metrics: Path, settings: dict[str, Any], output: Path) -> None:
    """Write one row per experiment, the best mean Dice on positive studies first, and print it.

    ``settings`` has ``bootstrap_samples``, ``seed`` and ``confidence``. Columns: ``studies`` and
    ``patients``; ``_mean``, ``_median``, ``_low``, ``_high``, ``_n`` of ``dice`` and
    ``fn_volume_ml`` (defined on positive studies only), ``positive_fp_volume_ml`` and
    ``negative_fp_volume_ml``; and, each with ``_low``, ``_high`` and its denominator ``_n``,
    ``negative_false_alarm_rate`` (negative studies with any predicted voxel),
    ``lesion_sensitivity`` (reference lesions found) and ``lesion_precision`` (predicted lesions
    that touch a reference voxel), the latter two pooled over all studies. ``_low`` to ``_high`` is
    the percentile interval of the mean or share, from resampling patients; it is undefined with
    fewer than two patients.
    """
    table = read_table(metrics)
    if table.empty:
        raise PetctError(f"{metrics}: no rows, expected at least one scored study")
    table["positive"] = table["positive"].astype(bool)
    summaries = [
        dict(zip(EXPERIMENT_COLUMNS, names, strict=True)) | summarise_experiment(rows, settings)
        for names, rows in table.groupby(EXPERIMENT_COLUMNS)
    ]
    comparison = pd.DataFrame(summaries).sort_values(
        "dice_mean", ascending=False, kind="stable", na_position="last"
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    comparison.to_csv(output, sep="\t", index=False, na_rep="nan", float_format="%.6g")
    print(readable_table(comparison, settings["confidence"]))
    studies = table["study"].nunique()
    for row in comparison[comparison["studies"] < studies].itertuples():
        print(
            f"note: {row.strategy} / {row.model} / {row.cohort} was scored on {row.studies} of "
            f"{studies} studies; its means are not comparable with the others."
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--metrics", type=Path, required=True, help="metrics.tsv")
    parser.add_argument(
        "--settings",
        type=json.loads,
        required=True,
        help="JSON: bootstrap_samples, seed, confidence",
    )
    parser.add_argument("--output", type=Path, required=True, help="comparison.tsv")
    compare_experiments(**vars(parser.parse_args()))


if __name__ == "__main__":
    with exit_on_error():
        main()
