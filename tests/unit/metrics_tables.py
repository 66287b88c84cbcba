"""Tables of metrics as if networks had been scored: any strategies, models and cohorts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

SETTINGS: dict[str, Any] = {
    "bootstrap_samples": 500,
    "seed": 20,
    "confidence": 0.95,
    "permutations": 2000,
    "power": 0.8,
    "steps": [["two_step_prior", "one_step"], ["two_step_boxes", "one_step"]],
    "upper_bounds": ["oracle_boxes"],
}


def count_lesions(found: int, false: int) -> dict[str, int]:
    """The columns of lesions found and false, the same by every criterion."""
    suffixes = ("", "_iou10", "_iou50", "_suvmax")
    return {f"lesions_found{suffix}": found for suffix in suffixes} | {
        f"lesions_false{suffix}": false for suffix in suffixes
    }


def score(study: str, patient: str, dice: float | None) -> dict[str, Any]:
    """A row of metrics.tsv, less its experiment: one lesion, found; none if ``dice`` is None."""
    positive = dice is not None
    return {
        "dataset": "test",
        "study": study,
        "patient": patient,
        "fold": 0,
        "positive": positive,
        "reference_ml": 10.0 * positive,
        "predicted_ml": 8.0 * positive,
        "dice": np.nan if dice is None else dice,
        "fp_volume_ml": 0.0,
        "fn_volume_ml": 1.0 if positive else np.nan,
        "lesions_reference": int(positive),
        "lesions_predicted": int(positive),
        **count_lesions(int(positive), 0),
        "surface_dice": np.nan if dice is None else dice,
        "hd95_mm": 4.0 if positive else np.nan,
        "reference_tlg": 50.0 * positive,
        "predicted_tlg": 40.0 * positive,
    }


def simulate_metrics(
    experiments: Sequence[tuple[str, str, str, float]],
    positives: int,
    negatives: int,
    patients: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Experiments (strategy, model, cohort, how much Dice it has on average) on the same studies.

    The last studies are second ones of the first patients, so that there are ``patients``.
    """
    studies = positives + negatives
    ease = rng.beta(4, 2, patients)[np.arange(studies) % patients]
    volume_ml = np.exp(rng.normal(3.5, 1.3, studies))
    lesions = 1 + rng.poisson(4, studies)
    rows = []
    for strategy, model, cohort, level in experiments:
        for i in range(studies):
            false_ml = float(rng.exponential(20) * (rng.random() < 0.5))
            false = int(rng.poisson(2)) if false_ml else 0
            dice = float(np.clip(level * ease[i] / 0.67 + rng.normal(0, 0.12), 0, 0.98))
            found = int(rng.binomial(lesions[i], dice))
            predicted_ml = volume_ml[i] * float(np.exp(rng.normal(-0.2, 0.5)))
            positive = i < positives
            row = score(
                f"phantom-{i:03d}", f"patient-{i % patients:03d}", dice if positive else None
            ) | {"fp_volume_ml": false_ml}
            if positive:
                row |= {
                    "reference_ml": volume_ml[i],
                    "predicted_ml": predicted_ml,
                    "fn_volume_ml": volume_ml[i] * (1 - found / lesions[i]),
                    "lesions_reference": int(lesions[i]),
                    "lesions_predicted": found + false,
                    **count_lesions(found, false),
                    "lesions_found_iou50": found // 2,
                    "lesions_false_iou50": false + found - found // 2,
                    "reference_tlg": 6 * volume_ml[i],
                    "predicted_tlg": 6 * predicted_ml,
                }
            else:
                row |= {
                    "predicted_ml": false_ml,
                    "lesions_predicted": false,
                    **count_lesions(0, false),
                }
            rows.append({"strategy": strategy, "model": model, "cohort": cohort} | row)
    return pd.DataFrame(rows)


def write_metrics(path: Path, table: pd.DataFrame) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, sep="\t", index=False, na_rep="nan")
    return path
