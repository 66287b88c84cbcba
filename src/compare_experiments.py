"""Compare the experiments: one row each, every mean with its interval and its denominator."""

from __future__ import annotations

import argparse
import json
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from petct.agreement import concordance, concordance_moments, limits_of_agreement
from petct.command_line import exit_on_error
from petct.errors import PetctError
from petct.metrics import EXPERIMENT_COLUMNS, read_table
from petct.provenance import save_origin
from petct.statistics import (
    clustered_bootstrap,
    clustered_bootstrap_ratio,
    divide,
    percentile_interval,
    resample_totals,
)

# Of the columns lesions_found and lesions_false, by criterion.
DETECTION_SUFFIXES = ("", "_iou10", "_iou50", "_suvmax")

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


def summarise_detection(
    suffix: str, rows: pd.DataFrame, settings: dict[str, Any]
) -> dict[str, float]:
    """Sensitivity, precision and F1 of all lesions of all studies, by one criterion.

    ``suffix`` is that of the criterion's columns: "" (any voxel), "_iou10", "_iou50", "_suvmax".
    """
    counts = np.column_stack(
        [
            rows[f"lesions_found{suffix}"],
            rows["lesions_reference"],
            rows["lesions_predicted"] - rows[f"lesions_false{suffix}"],
            rows["lesions_predicted"],
        ]
    ).astype(float)
    patients = rows["patient"].to_numpy()
    resampled = resample_totals(
        counts, patients, settings["bootstrap_samples"], np.random.default_rng(settings["seed"])
    )
    figures = detection_figures(counts.sum(axis=0))
    low, high = percentile_interval(
        detection_figures(resampled), len(np.unique(patients)), settings["confidence"]
    )
    reference, predicted = int(counts[:, 1].sum()), int(counts[:, 3].sum())
    wholes = {"sensitivity": reference, "precision": predicted, "f1": reference + predicted}
    summary: dict[str, float] = {}
    for i, (figure, whole) in enumerate(wholes.items()):
        name = f"lesion_{figure}{suffix}"
        summary |= {
            name: float(figures[i]),
            f"{name}_low": float(low[i]),
            f"{name}_high": float(high[i]),
            f"{name}_n": whole,
        }
    return summary


def detection_figures(totals: np.ndarray) -> np.ndarray:
    """Sensitivity, precision and their harmonic mean, F1: (..., 4) counts to (..., 3).

    The counts are lesions found, lesions of the reference, true predicted lesions, predicted
    lesions. A share of nothing is NaN; F1 is 0 where one side has lesions and none is right.
    """
    found, reference, true, predicted = np.moveaxis(totals, -1, 0)
    sensitivity, precision = divide(found, reference), divide(true, predicted)
    # 2 / (1 / s + 1 / p), in counts, so that 0 needs no exception.
    f1 = divide(2 * found * true, found * predicted + true * reference)
    f1 = np.where((found * true == 0) & (reference + predicted > 0), 0.0, f1)
    return np.stack([sensitivity, precision, f1], axis=-1)


def summarise_agreement(
    quantity: str, unit: str, rows: pd.DataFrame, column: str, settings: dict[str, Any]
) -> dict[str, float]:
    """Bias and concordance with their intervals, and limits of agreement, of positive studies.

    ``quantity`` and ``unit`` name the results; ``column`` is what follows predicted_ and
    reference_ in the metrics.
    """
    x, y = (rows[f"{side}_{column}"].to_numpy(float) for side in ("predicted", "reference"))
    patients = rows["patient"].to_numpy()
    # Both from the same resamples: the differences for the bias, then the concordance's sums.
    columns = np.column_stack([x - y, concordance_moments(x, y)])

    def figures(totals: np.ndarray) -> np.ndarray:
        bias = divide(totals[..., 0], totals[..., 1])
        return np.stack([bias, concordance(totals[..., 1:])], axis=-1)

    resampled = resample_totals(
        columns, patients, settings["bootstrap_samples"], np.random.default_rng(settings["seed"])
    )
    low, high = percentile_interval(
        figures(resampled), len(np.unique(patients)), settings["confidence"]
    )
    summary: dict[str, float] = {}
    names = (f"{quantity}_bias{unit}", f"{quantity}_ccc")
    for i, (name, value) in enumerate(zip(names, figures(columns.sum(axis=0)), strict=True)):
        summary |= {
            name: float(value),
            f"{name}_low": float(low[i]),
            f"{name}_high": float(high[i]),
            f"{name}_n": len(rows),
        }
    limits = limits_of_agreement(x, y, settings["confidence"])
    summary[f"{quantity}_limit_low{unit}"], summary[f"{quantity}_limit_high{unit}"] = limits
    return summary


def summarise_experiment(rows: pd.DataFrame, settings: dict[str, Any]) -> dict[str, float]:
    """Every figure of one experiment's studies; see ``compare_experiments``."""
    positive, negative = rows[rows["positive"]], rows[~rows["positive"]]
    summary: dict[str, float] = {"studies": len(rows), "patients": rows["patient"].nunique()}
    for name, studies, column in (
        ("dice", positive, "dice"),
        ("surface_dice", positive, "surface_dice"),
        ("hd95_mm", positive, "hd95_mm"),
        ("fn_volume_ml", positive, "fn_volume_ml"),
        ("positive_fp_volume_ml", positive, "fp_volume_ml"),
        ("negative_fp_volume_ml", negative, "fp_volume_ml"),
    ):
        summary |= summarise_mean(name, studies, column, settings)
    summary |= summarise_share(
        "negative_false_alarm_rate",
        negative,
        (negative["predicted_ml"] > 0).to_numpy(float),
        np.ones(len(negative)),
        settings,
    )
    for suffix in DETECTION_SUFFIXES:
        summary |= summarise_detection(suffix, rows, settings)
    summary |= summarise_agreement("volume", "_ml", positive, "ml", settings)
    summary |= summarise_agreement("tlg", "", positive, "tlg", settings)
    return summary


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
    ``patients``, then

    - ``_mean``, ``_median``, ``_low``, ``_high``, ``_n`` of ``dice``, ``surface_dice``,
      ``hd95_mm``, ``fn_volume_ml`` and ``positive_fp_volume_ml`` on positive studies, and of
      ``negative_fp_volume_ml``. ``hd95_mm`` does not exist where nothing was predicted: its mean
      leaves the worst studies out, ``hd95_mm_n`` tells;
    - with ``_low``, ``_high`` and its denominator ``_n``: ``negative_false_alarm_rate``, the
      negative studies with any predicted voxel;
    - likewise, pooled over all studies, the reference lesions found ``lesion_sensitivity``, the
      predicted lesions that are true ``lesion_precision``, and their harmonic mean ``lesion_f1``
      (its ``_n`` counts the lesions of both), by any shared voxel, and with the suffixes
      ``_iou10``, ``_iou50`` and ``_suvmax`` by the other criteria of the metrics;
    - likewise, on positive studies, predicted less reference volume and total lesion glycolysis:
      the mean difference ``volume_bias_ml`` and ``tlg_bias``, and Lin's concordance
      ``volume_ccc`` and ``tlg_ccc``; between ``volume_limit_low_ml`` and ``volume_limit_high_ml``
      (``tlg_limit_low``, ``tlg_limit_high``) lies the share ``confidence`` of all differences.

    ``_low`` to ``_high`` is an interval of the mean or share, from resampling patients; it is
    undefined with fewer than two of them.
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
    parser.add_argument("--code", required=True, help="digest of the code")
    arguments = parser.parse_args()
    compare_experiments(arguments.metrics, arguments.settings, arguments.output)
    save_origin(
        arguments.output, "compare_experiments", arguments.code, arguments.settings,
        [arguments.metrics],
    )  # fmt: skip


if __name__ == "__main__":
    with exit_on_error():
        main()
