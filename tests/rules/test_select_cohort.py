"""Who trains, who is tested, and who was left out: tables of made-up studies."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from petct.errors import PetctError
from petct.manifests import write_json
from select_cohort import select_cohort

SCRIPT = Path(__file__).parents[2] / "src" / "select_cohort.py"
SETTINGS: dict[str, Any] = {"folds": 3, "seed": 1, "cohorts": ["all", "positive"]}
# Twelve patients, every third without lesions; one of them has two studies, with and without.
STUDIES = {f"s{n:02d}": (f"p{n:02d}", n % 3 != 0) for n in range(12)} | {"s99": ("p01", False)}


def write_study(root: Path, study: str, patient: str, positive: bool) -> None:
    manifest = {"study": study, "patient": patient, "status": "resampled", "positive": positive}
    manifest |= {"lesion_ml": 12.5 if positive else 0.0, "digest": f"digest-of-{study}"}
    write_json(root / "resample_study" / study / "study.json", manifest)


def exclude(root: Path, study: str, step: str) -> None:
    manifest = {"study": study, "patient": f"of {study}", "status": "excluded", "step": step}
    manifest |= {"reason": f"failed in {step}", "file": "some\tfile"}
    write_json(root / "resample_study" / study / "study.json", manifest)


def write_index(root: Path, studies: list[str]) -> None:
    (root / "index_studies").mkdir(exist_ok=True)
    rows = "".join(f"{study}\tany\tdicom\tfolder\tseg\n" for study in studies)
    table = root / "index_studies" / "studies.tsv"
    table.write_text("study\tpatient\tformat\tfolder\tlabel\n" + rows)
    (root / "index_studies" / "excluded.tsv").write_text(
        "study\tpatient\tstep\treason\tfile\nm\t\tindex_studies\tno PT series\tin/m\n"
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for study, (patient, positive) in STUDIES.items():
        write_study(tmp_path, study, patient, positive)
    write_index(tmp_path, list(STUDIES))
    return tmp_path


def select(root: Path, **settings: Any) -> None:
    select_cohort(
        root / "index_studies",
        root / "resample_study",
        SETTINGS | settings,
        root / "select_cohort",
        root / "tables" / "excluded.tsv",
    )


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines()


def names(path: Path) -> list[str]:
    return [row["study"] for row in table(path)]


def folds_of(root: Path, cohort: str = "all") -> dict[str, str]:
    """Fold of each study."""
    return {row["study"]: row["fold"] for row in table(root / f"select_cohort/{cohort}.tsv")}


def test_each_study_is_tested_once_and_trains_otherwise(root: Path) -> None:
    select(root)
    folder = root / "select_cohort"
    tested = [study for fold in range(3) for study in names(folder / f"test/fold-{fold}.tsv")]
    assert sorted(tested) == sorted(STUDIES)
    for fold in range(3):
        test = names(folder / f"test/fold-{fold}.tsv")
        train = names(folder / f"all/fold-{fold}/train.tsv")
        assert sorted(test + train) == sorted(STUDIES)
        patients = [{STUDIES[study][0] for study in part} for part in (test, train)]
        assert not patients[0] & patients[1]
        assert {row["fold"] for row in table(folder / f"test/fold-{fold}.tsv")} == {str(fold)}
    fold_of = folds_of(root)
    assert fold_of["s99"] == fold_of["s01"]
    # 8 patients with lesions and 4 without, in 3 folds.
    first_studies = [study for study in STUDIES if study != "s99"]
    for positive, counts in ((True, [2, 3, 3]), (False, [1, 1, 2])):
        of_kind = Counter(fold_of[s] for s in first_studies if STUDIES[s][1] == positive)
        assert sorted(of_kind.values()) == counts


def test_a_row_says_all_about_a_study(root: Path) -> None:
    select(root)
    row = next(r for r in table(root / "select_cohort/all.tsv") if r["study"] == "s04")
    assert list(row) == ["study", "patient", "positive", "fold", "trains", "lesion_ml", "digest"]
    del row["fold"]
    assert row == {
        "study": "s04",
        "patient": "p04",
        "positive": "True",
        "trains": "True",
        "lesion_ml": "12.5",
        "digest": "digest-of-s04",
    }


def test_cohort_positive_trains_on_lesions_and_is_tested_on_everyone(root: Path) -> None:
    select(root)
    folder = root / "select_cohort"
    assert folds_of(root, "positive") == folds_of(root, "all")
    for row in table(folder / "positive.tsv"):
        assert row["trains"] == row["positive"] == str(STUDIES[row["study"]][1])
    for fold in range(3):
        train = names(folder / f"positive/fold-{fold}/train.tsv")
        everyone = names(folder / f"all/fold-{fold}/train.tsv")
        assert train == [study for study in everyone if STUDIES[study][1]]


def test_an_added_study_moves_nobody(root: Path) -> None:
    select(root)
    before = folds_of(root)
    # By its name, the new patient comes anywhere in the seeded order.
    for number in range(20, 26):
        write_study(root, f"s{number}", f"p{number}", number % 2 == 0)
    write_index(root, [*STUDIES, *(f"s{number}" for number in range(20, 26))])
    select(root)
    after = folds_of(root)
    assert {study: after[study] for study in before} == before
    assert len(after) == len(before) + 6
    # Without the ledger, some would have moved: it is what keeps them.
    (root / "select_cohort/folds.tsv").unlink()
    select(root)
    drawn_anew = folds_of(root)
    assert {study: drawn_anew[study] for study in before} != before


def test_a_patient_who_was_gone_comes_back_to_the_same_fold(root: Path) -> None:
    select(root)
    # A fold that a new drawing would not choose.
    ledger = root / "select_cohort/folds.tsv"
    other = (int(folds_of(root)["s05"]) + 1) % 3
    rows = [f"p05\t{other}" + r[5:] if r.startswith("p05\t") else r for r in lines_of(ledger)]
    ledger.write_text("\n".join(rows) + "\n")
    select(root)
    before = folds_of(root)
    assert before["s05"] == str(other)
    write_index(root, [study for study in STUDIES if study != "s05"])
    select(root)
    assert "s05" not in folds_of(root)
    write_index(root, list(STUDIES))
    select(root)
    assert folds_of(root) == before


@pytest.mark.parametrize("change", [{"seed": 2}, {"folds": 4}])
def test_another_seed_or_number_of_folds_draws_anew(root: Path, change: dict[str, int]) -> None:
    select(root)
    before = folds_of(root)
    select(root, **change)
    after = folds_of(root)
    assert after != before
    (root / "select_cohort/folds.tsv").unlink()
    select(root, **change)
    assert folds_of(root) == after


def test_the_same_input_gives_the_same_bytes(root: Path) -> None:
    contents = []
    for _ in range(2):
        select(root)
        files = sorted(path for path in (root / "select_cohort").rglob("*.tsv"))
        contents.append([(path.name, path.read_bytes()) for path in files])
    assert contents[0] == contents[1]


def test_names_that_look_like_missing_values_are_names(root: Path) -> None:
    write_study(root, "NA", "None", True)
    write_study(root, "007", "NA", True)
    write_index(root, [*STUDIES, "NA", "007"])
    select(root)
    before = folds_of(root)
    assert {"NA", "007"} < set(before)
    select(root)
    assert folds_of(root) == before
    patients = {row["patient"] for row in table(root / "select_cohort/folds.tsv")}
    assert {"None", "NA"} < patients


def test_exclusions_of_every_step_come_together(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exclude(root, "z", "convert_study")
    exclude(root, "b", "resample_study")
    write_index(root, [*STUDIES, "z", "b"])
    select(root)
    rows = table(root / "tables/excluded.tsv")
    assert list(rows[0]) == ["study", "patient", "step", "reason", "file"]
    assert [tuple(row.values()) for row in rows] == [
        ("b", "of b", "resample_study", "failed in resample_study", "some\tfile"),
        ("m", "", "index_studies", "no PT series", "in/m"),
        ("z", "of z", "convert_study", "failed in convert_study", "some\tfile"),
    ]
    assert not {"z", "b", "m"} & set(folds_of(root))
    assert "excluded z: failed in convert_study" in capsys.readouterr().out


def test_a_study_that_left_the_index_is_named_and_in_no_list(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_index(root, [study for study in STUDIES if study != "s05"])
    select(root)
    assert "no longer in the index: s05;" in capsys.readouterr().out
    for path in (root / "select_cohort").rglob("*.tsv"):
        assert "s05" not in path.read_text()


def test_too_few_patients_are_named(root: Path) -> None:
    write_index(root, ["s00", "s01", "s99"])
    with pytest.raises(
        PetctError, match=r"^3 folds need as many patients; there are 2 \(p00, p01\)"
    ):
        select(root)


def test_a_fold_without_lesions_to_train_on_is_named(root: Path) -> None:
    write_index(root, ["s00", "s03", "s06", "s01"])  # s01 alone has lesions
    with pytest.raises(
        PetctError, match=r"^cohort all, fold \d: no study with lesions is left to train on"
    ):
        select(root)


def test_nobody_left_stops_with_one_line(root: Path) -> None:
    exclude(root, "s00", "convert_study")
    write_index(root, ["s00"])
    arguments = [
        *["--index", root / "index_studies", "--resampled", root / "resample_study"],
        *["--settings", json.dumps(SETTINGS), "--output-folder", root / "select_cohort"],
        *["--excluded", root / "tables" / "excluded.tsv", "--code", "c"],
    ]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: no study is left to work with; the reasons are in ")
    assert names(root / "tables/excluded.tsv") == ["m", "s00"]
