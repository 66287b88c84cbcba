"""Cross-validation folds: grouped by patient, balanced, and kept when studies are added."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd

from petct.manifests import whole_table


def assign_folds(
    positive_of: dict[str, bool], folds: int, seed: int, kept: dict[str, int]
) -> dict[str, int]:
    """A fold for each patient; ``positive_of`` says whether any study of a patient has lesions.

    Patients in ``kept`` stay where they are. The others go, in an order drawn from the seed and
    their own names, to the fold with the fewest patients of their kind (positive or negative),
    then the fewest of all, then the lowest number.
    """
    result = {p: kept[p] for p in positive_of if 0 <= kept.get(p, -1) < folds}
    for patient in sorted(set(positive_of) - set(result), key=lambda p: rank_patient(p, seed)):
        kind = positive_of[patient]
        of_kind = [f for p, f in result.items() if positive_of[p] == kind]
        of_all = list(result.values())
        result[patient] = min(
            range(folds), key=lambda fold: (of_kind.count(fold), of_all.count(fold), fold)
        )
    return result


def choose_validation(positive_of: dict[str, bool], share: float, seed: int) -> set[str]:
    """The training patients that are held out to watch the training.

    A share of the positive and of the negative patients each, rounded, at least one positive
    where there are three; drawn from the seed and the patients' names.
    """
    chosen: set[str] = set()
    if share == 0.0:
        return chosen
    for kind in (True, False):
        patients = sorted(
            (p for p, positive in positive_of.items() if positive == kind),
            key=lambda p: rank_patient(p, seed),
        )
        number = round(share * len(patients))
        if kind and len(patients) >= 3:
            number = max(1, number)
        chosen |= set(patients[:number])
    return chosen


def choose_validation_studies(studies: pd.DataFrame, share: float, seed: int) -> list[str]:
    """The studies of ``choose_validation``'s patients, of a table with study, patient, positive."""
    positive_of: dict[str, bool] = {}
    for patient, positive in zip(studies["patient"], studies["positive"], strict=True):
        positive_of[patient] = positive_of.get(patient, False) or positive
    held_out = choose_validation(positive_of, share, seed)
    return studies["study"][studies["patient"].isin(held_out)].tolist()


def read_cohort(path: Path) -> pd.DataFrame:
    """A list of studies by select_cohort: names stay text; DamagedFileError if it is not whole."""
    names = {"study": str, "patient": str}
    return pd.read_csv(whole_table(path), sep="\t", dtype=names, keep_default_na=False)


def read_training_studies(cohort: Path, fold: int) -> pd.DataFrame:
    """The table of studies to train on; ValueError if any is of the fold that is held out."""
    studies = read_cohort(cohort)
    if (studies["fold"] == fold).any():
        raise ValueError(f"{cohort}: lists studies of the held-out fold {fold}")
    return studies


def rank_patient(patient: str, seed: int) -> str:
    """A patient's place in a seeded order that does not depend on who else is there."""
    return hashlib.sha256(f"{seed}/{patient}".encode()).hexdigest()
