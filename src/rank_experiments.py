"""Rank the experiments by mean Dice, and say how far the ranks hold for other patients."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from petct.command_line import exit_on_error
from petct.comparisons import (
    OUTCOMES,
    comparable_experiments,
    experiments_of,
    patients_of,
    tabulate_outcome,
)
from petct.errors import PetctError
from petct.metrics import EXPERIMENT_COLUMNS, read_table
from petct.provenance import save_origin
from petct.statistics import percentile_interval, resample_means

OBSERVED_COLUMNS = [*EXPERIMENT_COLUMNS, "rank", "dice_mean", "studies", "patients"]
RESAMPLED_COLUMNS = [
    *["rank_mean", "rank_low", "rank_high", "first_share"],
    *["tau_mean", "tau_low", "tau_high"],
]


def rank_means(means: np.ndarray, method: str) -> np.ndarray:
    """Ranks along the last axis, 1 for the highest mean; scipy's ``method`` for ties."""
    # Equal experiments' means differ in their last digits.
    return stats.rankdata(-means.round(12), method=method, axis=-1)


def share_ranks(means: np.ndarray) -> np.ndarray:
    """How often each experiment takes each rank: (samples, k) means to (k experiments, k ranks).

    Experiments that tie share the ranks that they occupy. Rows and columns sum to 1.
    """
    best, worst = rank_means(means, "min"), rank_means(means, "max")
    ranks = np.arange(1, means.shape[1] + 1)[:, None, None]
    taken = (best <= ranks) & (ranks <= worst)
    return (taken / (worst - best + 1)).mean(axis=1).T


def measure_ranks(
    dice: pd.DataFrame, patients: pd.Series[str], settings: dict[str, Any]
) -> pd.DataFrame:
    """The rows of ``rank_experiments`` with a rank, best first.

    ``dice`` has a row for each study and a column for each experiment, all defined; ``patients``
    gives the patient of each study.
    """
    if dice.empty:
        return pd.DataFrame(columns=[*OBSERVED_COLUMNS, *RESAMPLED_COLUMNS])
    values, clusters = dice.to_numpy(float), patients.loc[dice.index].to_numpy()
    count = len(np.unique(clusters))
    observed = values.mean(axis=0)
    means = resample_means(
        values, clusters, settings["bootstrap_samples"], np.random.default_rng(settings["seed"])
    )
    ranks = rank_means(means, "average")
    shares = share_ranks(means)
    low, high = percentile_interval(ranks, count, settings["confidence"])
    repeated = np.broadcast_to(observed, means.shape)
    tau = stats.kendalltau(means.round(12), repeated.round(12), axis=1).statistic
    # Resamples in which all experiments tie have no order.
    defined = tau[~np.isnan(tau)]
    tau_low, tau_high = percentile_interval(tau[:, None], count, settings["confidence"])
    rows = pd.DataFrame(
        [tuple(names) for names in dice.columns], columns=EXPERIMENT_COLUMNS
    ).assign(
        rank=rank_means(observed, "average"),
        dice_mean=observed,
        studies=len(dice),
        patients=count,
        rank_mean=ranks.mean(axis=0),
        rank_low=low,
        rank_high=high,
        first_share=shares[:, 0],
        tau_mean=defined.mean() if len(defined) else np.nan,
        tau_low=tau_low[0],
        tau_high=tau_high[0],
        **{f"share_{k + 1}": shares[:, k] for k in range(len(observed))},
    )
    if count < 2:
        # Drawing the only patient again says nothing.
        rows[rows.columns.difference(OBSERVED_COLUMNS)] = np.nan
    return rows.sort_values("rank", kind="stable")


def rank_experiments(metrics: Path, settings: dict[str, Any], output: Path) -> None:
    """Write one row per experiment, the highest mean Dice over the positive studies first.

    Columns: ``rank`` (1 is best, ties have the mean of their ranks), ``dice_mean`` and the
    ``studies`` and ``patients`` behind it; from resampling patients, alike for all experiments:
    ``rank_mean``, the rank's interval ``rank_low`` to ``rank_high``, ``first_share`` of the
    resamples in which it is the best, and ``share_<k>`` in which it has rank k (ties share).
    ``tau_mean``, ``tau_low`` and ``tau_high`` concern the whole ranking and stand in every row:
    Kendall's tau-b between the resampled and the observed mean Dice, 1 for the same order and 0
    for none in common. With one patient all of these are undefined.

    Without a rank, named and last: an experiment that was not scored on the same studies as most,
    and one whose strategy is among the ``upper_bounds`` of ``settings``, which look at the
    reference. ``settings`` has also ``bootstrap_samples``, ``confidence`` and ``seed``.
    """
    table = read_table(metrics)
    if table.empty:
        raise PetctError(f"{metrics}: no rows, expected at least one scored study")
    eligible = table[~table["strategy"].isin(settings["upper_bounds"])]
    dice = tabulate_outcome(eligible, OUTCOMES[0])
    ranked = comparable_experiments(dice)
    unranked = [names for names in experiments_of(table) if names not in ranked]
    rows = pd.concat(
        [
            measure_ranks(dice[ranked].dropna(), patients_of(table), settings),
            pd.DataFrame(unranked, columns=EXPERIMENT_COLUMNS),
        ],
        ignore_index=True,
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    rows.to_csv(output, sep="\t", index=False, na_rep="nan", float_format="%.6g")
    for row in rows[rows["rank"].isna()].itertuples():
        print(
            f"note: {row.strategy} / {row.model} / {row.cohort} has no rank: it looks at the "
            "reference or was not scored on the same studies as the others."
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--metrics", type=Path, required=True, help="metrics.tsv")
    parser.add_argument(
        "--settings",
        type=json.loads,
        required=True,
        help="JSON: bootstrap_samples, confidence, seed, upper_bounds",
    )
    parser.add_argument("--output", type=Path, required=True, help="ranks.tsv")
    parser.add_argument("--code", required=True, help="digest of the code")
    arguments = parser.parse_args()
    rank_experiments(arguments.metrics, arguments.settings, arguments.output)
    save_origin(
        arguments.output, "rank_experiments", arguments.code, arguments.settings,
        [arguments.metrics],
    )  # fmt: skip


if __name__ == "__main__":
    with exit_on_error():
        main()
