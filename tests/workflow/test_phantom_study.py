"""The real workflow on a small phantom study: its results and what it refuses."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pydicom
import pytest

from workflow_runs import snakemake


@pytest.fixture(scope="module")
def repo(finished_study: Path) -> Path:
    """A copy of the project."""
    return finished_study / "project"


@pytest.fixture(scope="module")
def finished(finished_study: Path) -> Path:
    """The working directory of a finished run."""
    return finished_study / "run"


def test_every_study_is_scored_once_in_every_experiment(finished: Path) -> None:
    metrics = pd.read_csv(finished / "results/test/tables/metrics.tsv", sep="\t")
    assert len(metrics.groupby(["strategy", "model", "cohort"])) == 5
    assert not metrics.duplicated(["study", "strategy", "model", "cohort"]).any()
    assert metrics.groupby("study").size().tolist() == [5] * 4
    negative = metrics[~metrics["positive"]]
    assert negative["study"].unique().tolist() == ["phantom-003"]
    assert negative["dice"].isna().all()
    comparison = pd.read_csv(finished / "results/test/tables/comparison.tsv", sep="\t")
    assert len(comparison) == 5
    assert (comparison["dice_n"] == 3).all()


def test_the_tables_and_pictures_are_there(finished: Path) -> None:
    assert len(pd.read_csv(finished / "results/test/tables/studies.tsv", sep="\t")) == 4
    results = finished / "results/test"
    assert pd.read_csv(results / "tables/excluded.tsv", sep="\t").empty
    regions = pd.read_csv(results / "tables/regions.tsv", sep="\t")
    assert len(regions) == 4
    for picture in ("plot_dice/dice.png", "plot_history/history.png"):
        assert (results / picture).stat().st_size > 10_000
    assert len(list((results / "plot_studies").rglob("*.png"))) == 3 * 4


def test_the_report_opens_without_a_network(repo: Path, finished: Path, tmp_path: Path) -> None:
    page = (finished / "results/test/report/index.html").read_text()
    assert "ranks first" in page and page.count("<img ") >= 6 + 4
    config = ("--configfile", str(repo / "config/test.yaml"))
    result = snakemake(repo, finished, *config, "--report", str(tmp_path / "report.html"))
    assert result.returncode == 0, result.stdout + result.stderr
    everything = (tmp_path / "report.html").read_text()
    for name in ("index.html", "comparison.tsv", "origins.tsv", "dice.png"):
        assert name in everything
    assert not re.search(r"(src|href)=.https?://", everything)


def test_nnunet_trained_on_our_folds(finished: Path) -> None:
    results = finished / "results/test"
    for fold in (0, 1):
        listed = pd.read_csv(results / f"select_cohort/all/fold-{fold}/train.tsv", sep="\t")
        held_out = pd.read_csv(results / f"select_cohort/test/fold-{fold}.tsv", sep="\t")
        folder = results / f"train_nnunet/one_step/nnunet_small/all/fold-{fold}"
        trained = json.loads((folder / "model.json").read_text())["studies"]
        assert set(trained) == set(listed["study"])
        assert not set(trained) & set(held_out["study"])
        # Nothing of nnU-Net's working files stays, and nothing that is pickled.
        assert {path.name for path in folder.iterdir()} == {
            *["model.json", "last.safetensors", "best.safetensors", "history.tsv"],
            *["finished.json", "lock"],
        }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("trainings=1",), "'trainings' was unexpected"),
        (("folds=1",), "folds: 1 is less than the minimum of 2"),
        (("source=folder", "folder=/not/there"), "folder: /not/there is not a folder"),
    ],
)
def test_wrong_settings_stop_before_any_job(
    repo: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = snakemake(repo, tmp_path, "--config", *arguments)
    assert result.returncode != 0
    assert "The settings are wrong:" in result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "results").exists()


def test_faulty_studies_are_excluded_with_their_reasons(
    repo: Path, finished: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    phantoms = finished / "results/test/make_phantom"
    for name in ("phantom-001", "phantom-002"):
        shutil.copytree(phantoms / name, data / name)
    for fault in ("no_pet", "two_pets", "no_weight", "truncated"):
        shutil.copytree(phantoms / "phantom-001", data / fault)
        give_new_uids(data / fault, fault)
    shutil.rmtree(data / "no_pet/PT")
    shutil.copytree(data / "two_pets/PT", data / "two_pets/other")
    give_new_uids(data / "two_pets/other", "other", keep_study=True)
    for path in (data / "no_weight/PT").iterdir():
        dataset = pydicom.dcmread(path)
        del dataset.PatientWeight
        dataset.save_as(path)
    cut = sorted((data / "truncated/PT").iterdir())[3]
    cut.write_bytes(cut.read_bytes()[:-2000])

    folder = tmp_path / "run"
    result = snakemake(
        repo,
        folder,
        "--configfile",
        str(repo / "config/test.yaml"),
        "--config",
        "source=folder",
        f"folder={data}",
        "--until",
        "select_cohort",
    )
    assert result.returncode == 0, result.stdout + result.stderr
    results = folder / "results/test"
    table = pd.read_csv(results / "tables/excluded.tsv", sep="\t", dtype=str)
    reasons = {row.study: f"{row.reason} ({row.file})" for row in table.itertuples()}
    assert set(reasons) == {"no_pet", "no_weight", "truncated"}
    assert "no PT series" in reasons["no_pet"]
    assert "PatientWeight (0010,1030)" in reasons["no_weight"]
    assert cut.name in reasons["truncated"]
    used = pd.read_csv(results / "select_cohort/all.tsv", sep="\t")["study"]
    assert sorted(used) == ["phantom-001", "phantom-002", "two_pets"]
    chosen = json.loads((results / "convert_study/two_pets/study.json").read_text())
    assert "is taken over" in " ".join(chosen["warnings"])


def give_new_uids(folder: Path, name: str, keep_study: bool = False) -> None:
    """Make a copied study (or series) another one: its own patient and identifiers."""
    for path in folder.rglob("*"):
        if not path.is_file() or path.suffix == ".json":
            continue
        dataset = pydicom.dcmread(path)
        keywords = ["SeriesInstanceUID", "SOPInstanceUID"]
        keywords += [] if keep_study else ["StudyInstanceUID"]
        for keyword in keywords:
            uid = pydicom.uid.generate_uid(entropy_srcs=[name, str(dataset[keyword].value)])
            setattr(dataset, keyword, uid)
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.PatientID = dataset.PatientID if keep_study else name
        dataset.save_as(path)
