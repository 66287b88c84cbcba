"""A network trained for a second on studies whose lesions are their brightest boxes."""

from __future__ import annotations

from pathlib import Path

import pytest

from array_studies import MODEL_SETTINGS, Box, write_cohort, write_resampled
from train_network import train_network

LESIONS: dict[str, list[Box]] = {
    "a": [(8, 9, 8, 12, 14, 13)],
    "b": [(14, 18, 15, 18, 22, 20), (7, 8, 7, 10, 11, 10)],
    "c": [],
    "d": [(11, 15, 9, 16, 20, 14)],
}


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder: resample_study/{a,b,c,d}, train.tsv (a, b, c), test.tsv (d), fold-0/model.json."""
    root = tmp_path_factory.mktemp("trained")
    for study, lesions in LESIONS.items():
        write_resampled(root, study, lesions)
    cohort = write_cohort(root / "train.tsv", {"a": 1, "b": 1, "c": 1}, negative=("c",))
    write_cohort(root / "test.tsv", {"d": 0})
    output = root / "fold-0" / "model.json"
    train_network(cohort, [], [], root / "resample_study", 0, MODEL_SETTINGS, 1, output)
    return root
