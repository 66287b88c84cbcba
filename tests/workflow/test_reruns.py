"""What a change makes run again: the jobs that it can affect, and no others."""

from __future__ import annotations

import os
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import yaml

from make_phantom import make_phantom
from workflow_runs import list_jobs, snakemake

RESULTS = Path("results/test")
# The jobs that hang on how studies are scored, and on how scores are summed up.
SUMMARIES = (
    "compare_experiments|pair_experiments|rank_experiments"
    "|plot_dice|plot_differences|plot_ranks|tabulate_origins|write_report"
)
SCORES = f"tabulate_metrics|plot_agreement|{SUMMARIES}"
CALIBRATION = "tabulate_calibration|plot_calibration"


@pytest.fixture(scope="module")
def finished(finished_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of ``finished_study``, for dry runs."""
    folder = tmp_path_factory.mktemp("reruns")
    unlocked = shutil.ignore_patterns("locks")
    shutil.copytree(finished_study, folder, ignore=unlocked, dirs_exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def all_jobs(finished: Path) -> set[str]:
    return list_jobs((finished / "printed").read_text())


def run(study: Path, *arguments: str, overlay: str = "") -> set[str]:
    """The jobs of a run, or a dry run, in a copy of ``finished_study``."""
    overlays = [str(study / "project/config/test.yaml"), str(study / "overlay.yaml")]
    (study / "overlay.yaml").write_text(overlay or "{}")
    result = snakemake(study / "project", study / "run", *arguments, "--configfile", *overlays)
    assert result.returncode == 0, result.stdout + result.stderr
    return list_jobs(result.stdout + result.stderr)


# Edits of the project's files.


def add_comments(project: Path) -> None:
    for path in project.rglob("*.py"):
        path.write_text(path.read_text().replace('"""', '"""Some say: ', 1) + "\n# a remark\n")
    for path in [*project.rglob("*.smk"), *project.rglob("*.yaml")]:
        path.write_text(path.read_text() + "\n# a remark\n")
    touch_all(project)


def touch_all(project: Path) -> None:
    for path in project.rglob("*"):
        path.touch()


def edit(name: str, old: str = "", new: str = "\nCHANGED = 1\n") -> Callable[[Path], None]:
    def change(project: Path) -> None:
        text = (project / name).read_text()
        assert old in text
        (project / name).write_text(text.replace(old, new) if old else text + new)

    return change


@dataclass(frozen=True)
class Change:
    """A change of the project or its settings and the jobs that must run, as a pattern."""

    name: str
    jobs: str
    edit: Callable[[Path], None] = lambda project: None
    overlay: str = ""


CHANGES = [
    Change("nothing", ""),
    Change("comments, docstrings and every file touched", "", add_comments),
    Change(
        "a module of the library",
        f"score_predictions .+|measure_calibration .+|plot_studies .+|{CALIBRATION}|{SCORES}",
        edit("src/petct/metrics.py"),
    ),
    Change(
        "another module",
        f"{CALIBRATION}|{SUMMARIES}",
        edit("src/petct/statistics.py"),
    ),
    Change("a rule's script", "plot_ranks|write_report", edit("src/plot_ranks.py")),
    Change("the report's template", "write_report", edit("src/templates/report.css", new=" ")),
    Change(
        "a model's setting",
        "(train|predict)_nnunet .+|(score_predictions|measure_calibration|plot_studies) "
        f"one_step/nnunet_small/.+|plot_history|{CALIBRATION}|{SCORES}",
        overlay="models: {nnunet_small: {training: {learning_rate: 0.02}}}",
    ),
    Change(
        "how boxes are placed",
        "(locate_regions|(train|predict)_network|score_predictions|measure_calibration|plot_studies)"
        f" two_step_boxes/.+|tabulate_regions|plot_history|{CALIBRATION}|{SCORES}",
        overlay="regions: {margin_mm: 30.0}",
    ),
    Change(
        "a metric's setting",
        f"score_predictions .+|plot_studies .+|{SCORES}",
        overlay="evaluation: {surface_tolerance_mm: 7.0}",
    ),
    Change(
        "two values exchanged",
        "(train|predict)_network .+|locate_regions .+|tabulate_regions"
        "|(score_predictions|measure_calibration|plot_studies) .+/unet_small/.+"
        f"|plot_history|{CALIBRATION}|{SCORES}",
        overlay="training: {lesion_share: 0.25, uptake_share: 0.5}",
    ),
    Change(
        # Converting and resampling are planned once the index is there.
        "the seed, from which the phantoms are drawn",
        "(?!convert_study|resample_study).+",
        overlay="seed: 21",
    ),
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
def test_a_change_of_the_project(
    finished: Path, all_jobs: set[str], tmp_path: Path, change: Change
) -> None:
    project = finished / "project"
    untouched = shutil.copytree(project, tmp_path / "project")
    change.edit(project)
    planned = run(finished, "--dry-run", overlay=change.overlay)
    shutil.rmtree(project)
    untouched.rename(project)
    assert planned == {job for job in all_jobs if re.fullmatch(change.jobs, job)}


def test_a_model_more_trains_that_model(finished: Path, all_jobs: set[str]) -> None:
    overlay = """
    models: {other: {network: UNet, arguments: {channels: [4, 8], strides: [2]}}}
    experiments:
      models: [unet_small, nnunet_small, other]
      exclude: [{strategy: two_step_boxes, model: nnunet_small},
                {strategy: two_step_boxes, model: other}]
    """
    per_fold = ["train_network", "predict_network", "score_predictions", "measure_calibration"]
    added = {f"{rule} one_step/other/all/{fold}" for rule in per_fold for fold in (0, 1)}
    added.add("plot_studies one_step/other/all")
    summaries = f"plot_history|{CALIBRATION}|{SCORES}"
    expected = {job for job in all_jobs if re.fullmatch(summaries, job)}
    assert run(finished, "--dry-run", overlay=overlay) == expected | added


def test_results_with_new_times_beside_a_fresh_checkout(finished: Path, tmp_path: Path) -> None:
    for name in ("project", "run"):
        shutil.copytree(finished / name, tmp_path / name)
    touch_all(tmp_path / "project")
    paths = [path for path in (tmp_path / "run/results").rglob("*") if path.is_file()]
    random.Random(1).shuffle(paths)
    for second, path in enumerate(paths, 1_900_000_000):
        os.utime(path, (second, second))
    assert run(tmp_path, "--dry-run") == set()


# The phantoms as a folder of studies, which may change while the project stays.
FOLDER = {
    **{"source": "folder", "folder": str(RESULTS / "make_phantom")},
    "evaluation": {"permutations": 2000},
}
TO_THE_COHORTS = [str(RESULTS / name) for name in ("select_cohort/folds.tsv", "tables/studies.tsv")]


@pytest.fixture(scope="module")
def from_folder(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of ``finished`` that was run again with the phantoms given as a folder."""
    folder = tmp_path_factory.mktemp("folder")
    shutil.copytree(finished, folder, dirs_exist_ok=True)
    # The index comes out as it was, and does not hide that another setting has changed.
    changed = {"index_studies", "pair_experiments", "plot_differences"}
    assert run_on_folder(folder) == changed | {"tabulate_origins", "write_report"}
    assert run_on_folder(folder, "--dry-run") == set()
    return folder


@pytest.fixture
def copy(from_folder: Path, tmp_path: Path) -> Path:
    """A copy of ``from_folder`` whose studies a test may change."""
    shutil.copytree(from_folder, tmp_path, dirs_exist_ok=True)
    return tmp_path


def run_on_folder(copy: Path, *arguments: str, **settings: object) -> set[str]:
    return run(copy, *arguments, overlay=yaml.safe_dump(FOLDER | settings))


def studies_folder(copy: Path) -> Path:
    return copy / "run" / RESULTS / "make_phantom"


def studies_of(copy: Path) -> pd.DataFrame:
    """Studies that are tested, with their folds."""
    table = pd.read_csv(copy / "run" / RESULTS / "select_cohort/all.tsv", sep="\t")
    return table.set_index("study")


def after_a_study_changed(all_jobs: set[str], fold: int) -> set[str]:
    """What runs once the lists of studies are there, if one of ``fold`` changed.

    Networks of the other fold have trained on it; on their coarse predictions hang both folds of
    two steps. Thresholds train on nothing.
    """
    other = 1 - fold
    jobs = (
        f"train_network (?!two_step)[a-z_]+/.+/{other}|train_network two_step.+"
        f"|(plan|train)_nnunet .+/{other}|predict_(network|nnunet) .+|predict_threshold .+/{fold}"
        f"|score_predictions (?!threshold).+|score_predictions threshold/.+/{fold}"
        "|measure_calibration .+|locate_regions .+|tabulate_regions|plot_studies .+|plot_history"
        f"|{CALIBRATION}|{SCORES}"
    )
    return {job for job in all_jobs if re.fullmatch(jobs, job)}


def test_the_seed_leaves_studies_of_a_folder_alone(from_folder: Path, all_jobs: set[str]) -> None:
    before = r"make_phantom .+|index_studies|(convert|resample)_study .+|tabulate_studies"
    expected = {job for job in all_jobs if not re.fullmatch(before, job)}
    assert run_on_folder(from_folder, "--dry-run", seed=21) == expected


def test_a_setting_of_reading_that_leaves_all_voxels_trains_nothing(
    copy: Path, all_jobs: set[str]
) -> None:
    reading = {"label_pattern": "lesion|gtv|tumou?r|neoplasm|hotspot"}
    read_again = "index_studies|(convert|resample)_study .+|select_cohort|tabulate_studies"
    expected = {job for job in all_jobs if re.fullmatch(read_again, job)}
    # Whether the new table of studies came before or after the run planned anew is chance.
    assert run_on_folder(copy, reading=reading) - {"tabulate_origins", "write_report"} == expected
    assert run_on_folder(copy, "--dry-run", reading=reading) == set()


def test_a_study_edited_in_place_is_converted_and_trained_on_again(
    copy: Path, all_jobs: set[str]
) -> None:
    file = min((studies_folder(copy) / "phantom-002/PT").iterdir())
    before = file.parent.stat().st_mtime_ns
    with file.open("r+b") as opened:  # the last pixel
        opened.seek(-2, os.SEEK_END)
        opened.write(b"\1\1")
    assert file.parent.stat().st_mtime_ns == before
    assert run_on_folder(copy, *TO_THE_COHORTS) == {
        *["index_studies", "convert_study phantom-002", "resample_study phantom-002"],
        *["select_cohort", "tabulate_studies"],
    }
    expected = after_a_study_changed(all_jobs, studies_of(copy)["fold"]["phantom-002"])
    assert run_on_folder(copy, "--dry-run") == expected


def test_a_study_more_moves_nobody_and_trains_the_other_fold(
    copy: Path, all_jobs: set[str]
) -> None:
    folds = studies_of(copy)["fold"].to_dict()
    truth = studies_folder(copy) / "phantom-005/truth.json"
    make_phantom("phantom-005", {"size": "demo", "seed": 20}, truth)
    assert run_on_folder(copy, *TO_THE_COHORTS) == {
        *["index_studies", "convert_study phantom-005", "resample_study phantom-005"],
        *["select_cohort", "tabulate_studies"],
    }
    new_folds = studies_of(copy)["fold"].to_dict()
    expected = after_a_study_changed(all_jobs, new_folds["phantom-005"])
    assert new_folds == folds | {"phantom-005": new_folds["phantom-005"]}
    assert run_on_folder(copy, "--dry-run") == expected


def test_a_study_less_leaves_its_files_and_its_place_in_no_list(
    copy: Path, all_jobs: set[str]
) -> None:
    studies = studies_of(copy)
    positive = studies[studies["positive"]]
    # Of two with lesions in a fold, so that each fold keeps one to train on.
    removed, fold = next(
        (str(study), int(fold))
        for study, fold in positive["fold"].items()
        if (positive["fold"] == fold).sum() > 1
    )
    shutil.rmtree(studies_folder(copy) / removed)
    results = copy / "run" / RESULTS
    network = "train_network one_step/unet_small/all"
    models = [f"{RESULTS}/{network.replace(' ', '/')}/fold-{n}/model.json" for n in (0, 1)]
    # Both networks are asked for; the one that it was held out from stays as it is.
    trained = f"{network}/{1 - fold}"
    assert run_on_folder(copy, *TO_THE_COHORTS, *models) == {
        *["index_studies", "select_cohort", "tabulate_studies", trained]
    }
    expected = after_a_study_changed(all_jobs, fold) - {trained}
    assert run_on_folder(copy, "--dry-run") == expected
    assert (results / "convert_study" / removed / "study.json").exists()
    assert f"no longer in the index: {removed}" in (results / "logs/select_cohort.log").read_text()
    for table in [*results.glob("select_cohort/**/*.tsv"), results / "tables/studies.tsv"]:
        assert table.name == "folds.tsv" or removed not in table.read_text()
