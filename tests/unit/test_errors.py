"""What a message says of a file in the results: its rule and how it is made again."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from petct.errors import DamagedFileError, PetctError, damaged

RESULTS = Path("results/test")


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a run, with what two rules left there."""
    monkeypatch.chdir(tmp_path)
    for name in (
        *("resample_study/a/study.json", "resample_study/a/fine/image.npy"),
        *("predict_network/s/m/c/fold-0/predictions.json",),
        *("predict_network/s/m/c/fold-0/a/prediction.json",),
        *("predict_network/s/m/c/fold-0/a/lesions.nii.gz",),
        *("train_network/s/m/c/fold-0/model.json", "train_network/s/m/c/fold-0/finished.json"),
        *("train_network/s/m/c/fold-0/history.tsv",),
        *("index_studies/studies/a.json", "select_cohort/folds.tsv", "tables/ranks.tsv"),
    ):
        (RESULTS / name).parent.mkdir(parents=True, exist_ok=True)
        (RESULTS / name).write_text("half")
    return tmp_path


@pytest.mark.parametrize(
    ("file", "advice"),
    [
        (
            "resample_study/a/fine/image.npy",
            "to have it made again by resample_study, run snakemake with the same options and "
            "--force results/test/resample_study/a/study.json, then as before",
        ),
        (
            "predict_network/s/m/c/fold-0/a/lesions.nii.gz",
            "to have it made again by predict_network, remove "
            "results/test/predict_network/s/m/c/fold-0/a/prediction.json, run snakemake with the "
            "same options and --force results/test/predict_network/s/m/c/fold-0/predictions.json, "
            "then as before",
        ),
        (
            "train_network/s/m/c/fold-0/history.tsv",
            "to have it made again by train_network, run snakemake with the same options and "
            "--force results/test/train_network/s/m/c/fold-0/model.json, then as before",
        ),
        # The job itself reads this one.
        (
            "select_cohort/folds.tsv",
            "to have it made again by select_cohort, remove results/test/select_cohort/folds.tsv, "
            "run snakemake with the same options and --force "
            "results/test/select_cohort/folds.tsv, then as before",
        ),
        (
            "tables/ranks.tsv",
            "to have it made again, remove results/test/tables/ranks.tsv, run snakemake with the "
            "same options and --force results/test/tables/ranks.tsv, then as before",
        ),
        # A file in a folder that is an output as a whole is no target.
        (
            "index_studies/studies/a.json",
            "to have it made again by index_studies, run snakemake with the same options and "
            "--forcerun index_studies, then as before",
        ),
    ],
)
def test_how_a_damaged_file_is_made_again(results: Path, file: str, advice: str) -> None:
    assert str(damaged(RESULTS / file)) == f"{RESULTS / file} is cut short or garbled; {advice}"


def test_what_is_wrong(results: Path) -> None:
    path = RESULTS / "resample_study/a/fine/image.npy"
    path.write_bytes(b"")
    assert f"{path} is empty; to have" in str(damaged(path))
    path.unlink()
    assert f"{path} is missing; to have" in str(damaged(path))
    # No rule makes it: nothing to advise.
    Path("a.npy").write_text("half")
    assert str(damaged(Path("a.npy"))) == "a.npy is cut short or garbled"


def test_it_is_caught_as_what_it_is(results: Path) -> None:
    error = damaged(RESULTS / "resample_study/a/study.json")
    assert isinstance(error, PetctError) and isinstance(error, ValueError)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (DamagedFileError, str(error))
