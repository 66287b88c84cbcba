"""Which experiments are compared with which, and in what.

Three questions change one thing and keep the others; the fourth is who is best:

- ``cohort``: trained on positive studies only, less trained on all.
- ``steps``: a two-step strategy, less its one-step counterpart.
- ``architecture``: one model, less another.
- ``best``: the experiment with the best mean Dice, less every other.

A comparison may pool several pairs of experiments: its difference in a study is then the mean
over the pairs. Its ``level`` says how many: ``overall`` (all pairs of the question), ``model``
(those of one architecture, or of one pair of architectures), ``pair`` (one pair).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations

import pandas as pd

from petct.configuration import Experiment
from petct.metrics import EXPERIMENT_COLUMNS

POOLED = "pooled"
# The cohort of what is not trained.
UNTRAINED = "none"

Pair = tuple[Experiment, Experiment]


@dataclass(frozen=True)
class Outcome:
    """A value of each study by which experiments are compared.

    ``column`` is its column in the metrics; ``positive`` says whether it is defined on the
    studies with lesions or on those without; ``label`` is for people, with its unit.
    """

    name: str
    column: str
    positive: bool
    higher_is_better: bool
    label: str


OUTCOMES = (
    Outcome("dice", "dice", True, True, "Dice"),
    Outcome("fn_volume_ml", "fn_volume_ml", True, False, "missed volume [mL]"),
    Outcome("negative_fp_volume_ml", "fp_volume_ml", False, False, "false volume [mL]"),
    Outcome("negative_false_alarm_rate", "false_alarm", False, False, "false alarm rate"),
)


@dataclass(frozen=True)
class Comparison:
    """Pairs of experiments whose mean difference, first less second, answers a question."""

    question: str
    level: str
    pairs: tuple[Pair, ...]

    def names(self) -> dict[str, str]:
        """Strategy, model and cohort of both sides; "pooled" where the pairs differ in it."""
        return {
            f"{column}_{letter}": _common([getattr(pair[side], column) for pair in self.pairs])
            for side, letter in enumerate("ab")
            for column in EXPERIMENT_COLUMNS
        }


def _common(names: Sequence[str]) -> str:
    return names[0] if len(set(names)) == 1 else POOLED


def experiments_of(metrics: pd.DataFrame) -> list[Experiment]:
    """The experiments of a table of metrics, in the order of its rows."""
    names = metrics[EXPERIMENT_COLUMNS].drop_duplicates()
    return [Experiment(*row) for row in names.itertuples(index=False)]


def patients_of(metrics: pd.DataFrame) -> pd.Series[str]:
    """The patient of each study, by the study's name."""
    return metrics.drop_duplicates("study").set_index("study")["patient"]


def list_comparisons(
    experiments: Sequence[Experiment], steps: Sequence[Sequence[str]]
) -> list[Comparison]:
    """Everything that answers ``cohort``, ``steps`` and ``architecture``, coarsest level first.

    ``steps`` holds (two-step strategy, its one-step counterpart). What is not trained takes no
    part.
    """
    known = set(experiments)
    trained = [experiment for experiment in experiments if experiment.cohort != UNTRAINED]
    models = list(dict.fromkeys(experiment.model for experiment in trained))
    cohorts = [(e._replace(cohort="positive"), e) for e in trained if e.cohort == "all"]
    strategies = [
        (e._replace(strategy=two_step), e)
        for two_step, one_step in steps
        for e in trained
        if e.strategy == one_step
    ]
    architectures = [
        (e, e._replace(model=other))
        for model, other in combinations(models, 2)
        for e in trained
        if e.model == model
    ]
    return [
        *_pool("cohort", "overall", cohorts, known, lambda a, b: ()),
        *_pool("cohort", "model", cohorts, known, lambda a, b: a.model),
        *_pool("cohort", "pair", cohorts, known, lambda a, b: (a, b)),
        *_pool("steps", "overall", strategies, known, lambda a, b: (a.strategy, b.strategy)),
        *_pool("steps", "model", strategies, known, lambda a, b: (a.strategy, b.strategy, a.model)),
        *_pool("steps", "pair", strategies, known, lambda a, b: (a, b)),
        *_pool("architecture", "model", architectures, known, lambda a, b: (a.model, b.model)),
        *_pool("architecture", "pair", architectures, known, lambda a, b: (a, b)),
    ]


def _pool(
    question: str,
    level: str,
    pairs: list[Pair],
    known: set[Experiment],
    key: Callable[[Experiment, Experiment], Hashable],
) -> list[Comparison]:
    """One comparison for all pairs of known experiments with the same key, in the order given."""
    groups: dict[Hashable, list[Pair]] = {}
    for first, second in pairs:
        if first in known and second in known:
            groups.setdefault(key(first, second), []).append((first, second))
    return [Comparison(question, level, tuple(group)) for group in groups.values()]


def list_all_pairs(experiments: Sequence[Experiment], best: Experiment) -> list[Comparison]:
    """Every pair of experiments, those with ``best`` having it first."""
    ordered = [best, *(experiment for experiment in experiments if experiment != best)]
    return [Comparison("best", "pair", (pair,)) for pair in combinations(ordered, 2)]


def tabulate_outcome(metrics: pd.DataFrame, outcome: Outcome) -> pd.DataFrame:
    """The outcome of each study where it is defined (rows, by name), by experiment (columns).

    The columns are (strategy, model, cohort); NaN where an experiment lacks a study.
    """
    metrics = metrics.assign(false_alarm=(metrics["predicted_ml"] > 0).astype(float))
    metrics = metrics[metrics["positive"].astype(bool) == outcome.positive]
    return metrics.pivot(index="study", columns=EXPERIMENT_COLUMNS, values=outcome.column)


def comparable_experiments(values: pd.DataFrame) -> list[Experiment]:
    """Those experiments of ``tabulate_outcome`` that were scored on the same studies.

    Of several such groups it is the one with the most experiments, then with the most studies.
    """
    scored = {Experiment(*names): tuple(values[names].notna()) for names in values.columns}
    patterns = Counter(scored.values())
    largest = max(patterns, key=lambda studies: (patterns[studies], sum(studies)), default=())
    return [experiment for experiment, studies in scored.items() if studies == largest]
