"""The real workflow on a small phantom study: its results, what reruns, what it refuses."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pydicom
import pytest

ROOT = Path(__file__).parents[2]
# `python` in a rule must be the one that runs the tests.
ENVIRONMENT = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def snakemake(repo: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(repo / "Snakefile")]
    command += ["--directory", str(folder), "--cores", "2", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)


def planned_rules(result: subprocess.CompletedProcess[str]) -> set[str]:
    """The rules in the table of jobs that a dry run prints."""
    lines = result.stdout.splitlines()
    if "Job stats:" not in lines:
        assert "Nothing to be done" in result.stdout + result.stderr, result.stdout + result.stderr
        return set()
    table = lines[lines.index("Job stats:") + 3 :]
    rules = {line.split()[0] for line in table[: table.index("")]}
    return rules - {"total", "all"}


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project whose files a test may change."""
    copy = tmp_path_factory.mktemp("repo")
    for name in ("Snakefile", "rules", "src", "config", "envs"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy / name)
    return copy


@pytest.fixture(scope="module")
def finished(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working directory of a finished run."""
    folder = tmp_path_factory.mktemp("run")
    result = snakemake(repo, folder, "--configfile", str(repo / "config/test.yaml"))
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def dry_run(repo: Path, finished: Path, *arguments: str) -> set[str]:
    config = ("--configfile", str(repo / "config/test.yaml"))
    return planned_rules(snakemake(repo, finished, "--dry-run", *config, *arguments))


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


def test_the_report_opens_without_a_network(repo: Path, finished: Path) -> None:
    page = (finished / "results/test/report/index.html").read_text()
    assert "ranks first" in page and page.count("<img ") >= 6 + 4
    config = ("--configfile", str(repo / "config/test.yaml"))
    result = snakemake(repo, finished, *config, "--report", "report.html")
    assert result.returncode == 0, result.stdout + result.stderr
    everything = (finished / "report.html").read_text()
    for name in ("index.html", "comparison.tsv", "dice.png"):
        assert name in everything
    assert not re.search(r"(src|href)=.https?://", everything)


def test_a_second_run_does_nothing(repo: Path, finished: Path) -> None:
    assert dry_run(repo, finished) == set()


def test_comments_and_touched_files_rerun_nothing(repo: Path, finished: Path) -> None:
    for path in repo.rglob("*.py"):
        path.write_text(path.read_text() + "\n# a remark\n")
    for path in repo.rglob("*"):
        path.touch()
    assert dry_run(repo, finished) == set()


# What hangs on how means, intervals and tests are computed.
COMPARING = {
    *["compare_experiments", "pair_experiments", "rank_experiments", "tabulate_calibration"],
    *["plot_dice", "plot_differences", "plot_ranks", "plot_calibration", "write_report"],
}


@pytest.mark.parametrize(
    ("module", "rules"),
    [
        (
            "metrics",
            {
                *COMPARING,
                *["score_predictions", "tabulate_metrics", "measure_calibration"],
                *["plot_studies", "plot_agreement"],
            },
        ),
        ("statistics", COMPARING),
    ],
)
def test_changed_code_reruns_what_hangs_on_it(
    repo: Path, finished: Path, module: str, rules: set[str]
) -> None:
    path = repo / f"src/petct/{module}.py"
    before = path.read_text()
    path.write_text(before + "\nCHANGED = 1\n")
    assert rules <= dry_run(repo, finished) <= rules | {"plot_history"}
    path.write_text(before)
    assert dry_run(repo, finished) == set()


def test_a_changed_model_leaves_the_others_alone(repo: Path, finished: Path) -> None:
    overlay = repo / "config/overlay.yaml"
    overlay.write_text("models: {unet_small: {training: {learning_rate: 0.02}}}\n")
    rules = dry_run(repo, finished, str(overlay))
    assert "train_network" in rules
    assert not rules & {"plan_nnunet", "train_nnunet", "predict_nnunet"}
    overlay.write_text("models: {nnunet_small: {training: {learning_rate: 0.02}}}\n")
    rules = dry_run(repo, finished, str(overlay))
    assert {"train_nnunet", "predict_nnunet"} <= rules
    assert not rules & {"plan_nnunet", "train_network", "predict_network", "locate_regions"}


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
            *["model.json", "last.safetensors", "best.safetensors", "history.tsv"]
        }


def test_a_changed_setting_reruns_the_boxes_and_what_hangs_on_them(
    repo: Path, finished: Path
) -> None:
    overlay = repo / "config/overlay.yaml"
    overlay.write_text("regions: {margin_mm: 30.0}\n")
    rules = dry_run(repo, finished, str(overlay))
    assert "locate_regions" in rules
    assert not rules & {"make_phantom", "convert_study", "resample_study", "select_cohort"}


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
