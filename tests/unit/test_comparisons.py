"""Which experiments are set against which, in matrices small enough to list."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from metrics_tables import SETTINGS, score
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

EXPERIMENTS = [
    Experiment("one_step", "unet", "all"),
    Experiment("one_step", "unet", "positive"),
    Experiment("two_step_boxes", "unet", "all"),
    Experiment("two_step_boxes", "unet", "positive"),
    Experiment("one_step", "unetr", "all"),
    Experiment("one_step", "unetr", "positive"),
    Experiment("threshold", "suv_4", "none"),
    Experiment("threshold", "suv_5", "none"),
]


def listed(question: str, level: str) -> list[Comparison]:
    return [
        comparison
        for comparison in list_comparisons(EXPERIMENTS, SETTINGS["steps"])
        if (comparison.question, comparison.level) == (question, level)
    ]


def sides(comparison: Comparison) -> str:
    names = comparison.names()
    return " - ".join(
        " ".join(names[f"{column}_{side}"] for column in ("strategy", "model", "cohort"))
        for side in "ab"
    )


def test_cohort_leaves_strategy_and_model() -> None:
    assert [sides(comparison) for comparison in listed("cohort", "pair")] == [
        "one_step unet positive - one_step unet all",
        "two_step_boxes unet positive - two_step_boxes unet all",
        "one_step unetr positive - one_step unetr all",
    ]
    assert [(sides(c), len(c.pairs)) for c in listed("cohort", "model")] == [
        ("pooled unet positive - pooled unet all", 2),
        ("one_step unetr positive - one_step unetr all", 1),
    ]
    (overall,) = listed("cohort", "overall")
    assert sides(overall) == "pooled pooled positive - pooled pooled all"
    assert len(overall.pairs) == 3


def test_steps_leave_model_and_cohort() -> None:
    """Only boxes were run, and UNETR in one step only."""
    assert [sides(comparison) for comparison in listed("steps", "pair")] == [
        "two_step_boxes unet all - one_step unet all",
        "two_step_boxes unet positive - one_step unet positive",
    ]
    assert [sides(comparison) for comparison in listed("steps", "overall")] == [
        "two_step_boxes unet pooled - one_step unet pooled"
    ]


def test_architectures_leave_strategy_and_cohort_and_baselines_have_none() -> None:
    assert [sides(comparison) for comparison in listed("architecture", "pair")] == [
        "one_step unet all - one_step unetr all",
        "one_step unet positive - one_step unetr positive",
    ]
    assert [sides(comparison) for comparison in listed("architecture", "model")] == [
        "one_step unet pooled - one_step unetr pooled"
    ]


def test_one_experiment_answers_nothing() -> None:
    assert list_comparisons(EXPERIMENTS[:1], SETTINGS["steps"]) == []
    assert list_all_pairs(EXPERIMENTS[:1], EXPERIMENTS[0]) == []


def test_all_pairs_have_the_best_first() -> None:
    best = EXPERIMENTS[2]
    pairs = [comparison.pairs[0] for comparison in list_all_pairs(EXPERIMENTS, best)]
    assert len(pairs) == 8 * 7 / 2
    assert [a for a, b in pairs if best in (a, b)] == [best] * 7


def table(studies: dict[str, list[float | None]]) -> pd.DataFrame:
    """Dice by model, of studies s0, s1, ...; None is a negative study, NaN one left out."""
    return pd.DataFrame(
        [
            {"strategy": "s", "model": model, "cohort": "all"} | score(f"s{i}", f"p{i}", dice)
            for model, values in studies.items()
            for i, dice in enumerate(values)
            if dice is None or not np.isnan(dice)
        ]
    )


def test_outcomes_of_positive_and_negative_studies() -> None:
    metrics = table({"a": [0.5, None, None], "b": [0.7, None, None]})
    metrics["predicted_ml"] = [8.0, 0.0, 2.0, 8.0, 0.0, 0.0]
    dice, missed, false, alarm = (tabulate_outcome(metrics, outcome) for outcome in OUTCOMES)
    assert dice.index.tolist() == missed.index.tolist() == ["s0"]
    assert dice.to_numpy().tolist() == [[0.5, 0.7]]
    assert false.index.tolist() == ["s1", "s2"]
    assert alarm.to_numpy().tolist() == [[0, 0], [1, 0]]
    assert experiments_of(metrics) == [Experiment("s", "a", "all"), Experiment("s", "b", "all")]
    assert patients_of(metrics).to_dict() == {"s0": "p0", "s1": "p1", "s2": "p2"}


@pytest.mark.parametrize(
    ("studies", "expected"),
    [
        ({"a": [0.5, 0.6], "b": [0.5, 0.6], "c": [0.5, np.nan]}, "ab"),
        ({"a": [0.5, np.nan], "b": [0.5, np.nan], "c": [0.5, 0.6]}, "ab"),
        # As many on either: more studies decide.
        ({"a": [0.5, np.nan], "b": [0.5, 0.6]}, "b"),
        ({"a": [None], "b": [None]}, "ab"),
    ],
)
def test_comparable_are_those_scored_on_the_same_studies(
    studies: dict[str, list[float | None]], expected: str
) -> None:
    dice = tabulate_outcome(table(studies), OUTCOMES[0])
    names = "".join(experiment.model for experiment in comparable_experiments(dice))
    assert names == (expected if len(dice) else "")
