"""Compare experiments two by two on the same studies: how they differ and how sure that is."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from petct.command_line import exit_on_error
from petct.comparisons import (
    OUTCOMES,
    Comparison,
    comparable_experiments,
    experiments_of,
    list_all_pairs,
    list_comparisons,
    patients_of,
    tabulate_outcome,
)
from petct.configuration import Experiment
from petct.errors import PetctError
from petct.metrics import read_table
from petct.paired_tests import (
    adjust_holm,
    detectable_difference,
    sign_flip_test,
    smallest_p,
)
from petct.provenance import save_origin
from petct.statistics import percentile_interval, resample_means, sum_clusters

COLUMNS = [
    *["question", "level", "metric"],
    *["strategy_a", "model_a", "cohort_a", "strategy_b", "model_b", "cohort_b", "pairs"],
    *["mean_a", "mean_b", "difference", "low", "high", "studies", "patients", "patients_differing"],
    *["p", "family", "p_adjusted", "smallest_p", "detectable_difference"],
]


def measure_differences(
    values: pd.DataFrame,
    patients: pd.Series[str],
    comparisons: Sequence[Comparison],
    settings: dict[str, Any],
) -> pd.DataFrame:
    """A row for each comparison that has a study in which all its experiments are defined.

    ``values`` is from ``tabulate_outcome``; ``patients`` gives the patient of each of its studies.
    The rows have the columns of ``pair_experiments``, less ``metric`` and the correction.
    Comparisons of the same studies share their resamples and their flips.
    """
    place = {Experiment(*names): i for i, names in enumerate(values.columns)}
    array = values.to_numpy(float)

    def mean_of(side: int) -> np.ndarray:
        """Over the pairs of each comparison, of their first or second: (studies, comparisons)."""
        sides = [[place[pair[side]] for pair in comparison.pairs] for comparison in comparisons]
        return np.column_stack([array[:, columns].mean(axis=1) for columns in sides])

    if not comparisons:
        return pd.DataFrame()
    first, second = mean_of(0), mean_of(1)
    defined = ~np.isnan(first - second)
    tables = []
    for studies in np.unique(defined[:, defined.any(axis=0)], axis=1).T:
        members = np.flatnonzero((defined == studies[:, None]).all(axis=0)).tolist()
        a, b = first[np.ix_(studies, members)], second[np.ix_(studies, members)]
        clusters = patients.loc[values.index[studies]].to_numpy()
        count = len(np.unique(clusters))
        resampled = resample_means(
            a - b, clusters, settings["bootstrap_samples"], np.random.default_rng(settings["seed"])
        )
        low, high = percentile_interval(resampled, count, settings["confidence"])
        # Means of pools differ in their last digits where experiments agree.
        differing = (np.abs(sum_clusters(a - b, clusters)) > 1e-12).sum(axis=0)
        flips = settings["permutations"]
        table = pd.DataFrame([comparisons[i].names() for i in members], index=members).assign(
            question=[comparisons[i].question for i in members],
            level=[comparisons[i].level for i in members],
            pairs=[len(comparisons[i].pairs) for i in members],
            mean_a=a.mean(axis=0),
            mean_b=b.mean(axis=0),
            difference=(a - b).mean(axis=0),
            low=low,
            high=high,
            studies=len(a),
            patients=count,
            patients_differing=differing,
            p=sign_flip_test(a - b, clusters, flips, np.random.default_rng(settings["seed"])),
            smallest_p=[smallest_p(int(n), flips) for n in differing],
            detectable_difference=detectable_difference(
                low, high, settings["confidence"], settings["power"]
            ),
        )
        tables.append(table)
    # The index is the comparison's place: the order that they came in.
    return pd.concat(tables).sort_index() if tables else pd.DataFrame()


def correct_families(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with ``p_adjusted`` by Holm and ``family``, the number of tests corrected for.

    A family is all rows of one ``question``, ``level`` and ``metric``.
    """
    families = rows.groupby(["question", "level", "metric"])["p"]
    return rows.assign(
        family=families.transform("size"),
        p_adjusted=families.transform(lambda p: adjust_holm(p.to_numpy())),
    )


def find_best(dice: pd.DataFrame) -> Experiment | None:
    """The best mean Dice among the experiments scored on the same studies; None without Dice."""
    candidates = comparable_experiments(dice)
    if not len(dice) or not candidates:
        return None
    means = dice[candidates].mean()
    return candidates[int(means.to_numpy().argmax())]


def pair_experiments(metrics: Path, settings: dict[str, Any], output: Path) -> None:
    """Write one row per question, level, metric and comparison.

    Questions and levels are those of petct.comparisons, metrics its outcomes: ``dice`` and
    ``fn_volume_ml`` on the studies with lesions, ``negative_fp_volume_ml`` and
    ``negative_false_alarm_rate`` on those without. ``_a`` and ``_b`` name the two sides ("pooled"
    where ``pairs`` of experiments differ in it); ``difference`` is ``mean_a`` - ``mean_b`` over
    ``studies`` that both have, of ``patients``, of whom ``patients_differing`` differ at all.

    ``low`` to ``high``: interval from resampling patients. ``p``: two-sided, from flipping the
    signs of whole patients' differences; no smaller than ``smallest_p`` with so many patients
    differing. ``p_adjusted``: Holm's, over the ``family`` of all tests of the same question, level
    and metric. Levels and metrics are not corrected for each other: the overall answer comes
    first, the finer levels say where it comes from. ``best`` was chosen by the same studies, which
    favours it; its family is therefore every pair of experiments, of which only its own are
    written. ``detectable_difference``: what a single such comparison would have found with
    the power of the settings, given the interval's width.

    ``settings`` has ``bootstrap_samples``, ``confidence``, ``permutations``, ``power``, ``seed``,
    ``steps`` (pairs of a two-step strategy and its one-step counterpart) and ``upper_bounds``:
    strategies that look at the reference, which take no part in ``best``. All of it holds for
    patients like these and for these trained networks: how a training of another seed
    would end is not in it.
    """
    table = read_table(metrics)
    if table.empty:
        raise PetctError(f"{metrics}: no rows, expected at least one scored study")
    experiments = experiments_of(table)
    comparisons = list_comparisons(experiments, settings["steps"])
    eligible = table[~table["strategy"].isin(settings["upper_bounds"])]
    best = find_best(tabulate_outcome(eligible, OUTCOMES[0]))
    if best:
        comparisons += list_all_pairs(experiments_of(eligible), best)
    tables = []
    for outcome in OUTCOMES:
        values = tabulate_outcome(table, outcome)
        # A study that an experiment lacks is left out of its comparisons.
        scored = [c for c in comparisons if all({*pair} <= {*values.columns} for pair in c.pairs)]
        tables.append(
            measure_differences(values, patients_of(table), scored, settings).assign(
                metric=outcome.name
            )
        )
    rows = pd.concat(tables, ignore_index=True).reindex(columns=COLUMNS)
    rows = correct_families(rows)
    if best:
        is_best = (rows[["strategy_a", "model_a", "cohort_a"]] == list(best)).all(axis=1)
        rows = rows[(rows["question"] != "best") | is_best]
    output.parent.mkdir(parents=True, exist_ok=True)
    rows.to_csv(output, sep="\t", index=False, na_rep="nan", float_format="%.6g")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--metrics", type=Path, required=True, help="metrics.tsv")
    parser.add_argument(
        "--settings",
        type=json.loads,
        required=True,
        help="JSON: bootstrap_samples, confidence, permutations, power, seed, steps, upper_bounds",
    )
    parser.add_argument("--output", type=Path, required=True, help="differences.tsv")
    parser.add_argument("--code", required=True, help="digest of the code")
    arguments = parser.parse_args()
    pair_experiments(arguments.metrics, arguments.settings, arguments.output)
    save_origin(
        arguments.output, "pair_experiments", arguments.code, arguments.settings,
        [arguments.metrics],
    )  # fmt: skip


if __name__ == "__main__":
    with exit_on_error():
        main()
