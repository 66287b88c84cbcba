"""The index of a folder as files, and what a wrong folder or setting says."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import dicom_studies as tiny
from index_studies import index_studies
from petct.errors import PetctError

SETTINGS: dict[str, Any] = {
    "missing_label": "exclude",
    "label_pattern": "lesion|gtv",
    "accept": [],
    "unusable_study": "exclude",
    "keys": "original",
    "salt_file": None,
}
SCRIPT = Path(__file__).parents[2] / "src" / "index_studies.py"


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_good_studies_go_on_beside_bad_ones(tmp_path: Path) -> None:
    root, output = tmp_path / "in", tmp_path / "out"
    good = tiny.write_study(root / "good", "rtstruct", patient="P1")
    no_pet = tiny.write_study(root / "no pet", "rtstruct", patient="P2")
    for path in no_pet.pet:
        path.unlink()
    tiny.write_study(root / "no label", None, patient="P3")
    gated = tiny.write_study(root / "gated", "rtstruct", patient="P4")
    tiny.edit(gated.pet, SeriesType=["GATED", "IMAGE"])
    (root / "notes.txt").write_text("nothing of interest")

    index_studies(root, SETTINGS, output)

    (row,) = table(output / "studies.tsv")
    assert row == {
        "study": "good",
        "patient": "P1",
        "format": "dicom",
        "folder": str(root / "good"),
        "label": "rtstruct",
    }
    excluded = table(output / "excluded.tsv")
    assert list(excluded[0]) == ["study", "patient", "step", "reason", "file"]
    assert {row["step"] for row in excluded} == {"index_studies"}
    assert [(row["study"], row["patient"]) for row in excluded] == [
        ("gated", "P4"),
        ("no-label", "P3"),
        ("no-pet", "P2"),
    ]
    assert "SeriesType (0054,1000) is GATED" in excluded[0]["reason"]
    assert excluded[1]["reason"] == "no label (SEG, RTSTRUCT or SEG.nii.gz)"
    assert excluded[2]["reason"] == "no PT series (found: CT 12 file(s), RTSTRUCT 1 file(s))"

    assert [path.name for path in (output / "studies").iterdir()] == ["good.json"]
    entry = json.loads((output / "studies" / "good.json").read_text())
    assert entry["pet"]["files"] == sorted(map(str, good.pet))
    assert entry["ct"]["files"] == sorted(map(str, good.ct))
    assert entry["label"] == {"kind": "rtstruct", "files": [str(good.label)], "refers_to": "pet"}
    assert (entry["study"], entry["patient"], entry["format"]) == ("good", "P1", "dicom")
    assert len(entry["fingerprint"]) == 64


def test_second_index_is_identical_and_forgets_removed_studies(tmp_path: Path) -> None:
    root, output = tmp_path / "in", tmp_path / "out"
    tiny.write_study(root / "a", "rtstruct")
    gone = tiny.write_study(root / "b", "rtstruct")
    index_studies(root, SETTINGS, output)
    first = (output / "studies" / "a.json").read_bytes()
    for path in (*gone.pet, *gone.ct, gone.label):
        assert path is not None
        path.unlink()
    index_studies(root, SETTINGS, output)
    assert (output / "studies" / "a.json").read_bytes() == first
    assert [path.name for path in (output / "studies").iterdir()] == ["a.json"]


def test_excluded_table_has_a_header_if_nothing_is_excluded(tmp_path: Path) -> None:
    tiny.write_study(tmp_path / "in" / "a", "rtstruct")
    index_studies(tmp_path / "in", SETTINGS, tmp_path / "out")
    assert (tmp_path / "out/excluded.tsv").read_text() == "study\tpatient\tstep\treason\tfile\n"


def test_study_without_label_may_count_as_negative(tmp_path: Path) -> None:
    tiny.write_study(tmp_path / "in" / "a", None)
    index_studies(tmp_path / "in", {**SETTINGS, "missing_label": "negative"}, tmp_path / "out")
    assert table(tmp_path / "out" / "studies.tsv")[0]["label"] == "none"
    assert json.loads((tmp_path / "out/studies/a.json").read_text())["label"] is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"missing_label": "guess"}, "missing_label is 'guess', expected 'exclude' or 'negative'"),
        ({"label_pattern": "(lesion"}, "label_pattern is '(lesion', not a regular expression"),
    ],
)
def test_wrong_settings(tmp_path: Path, settings: dict[str, str], message: str) -> None:
    with pytest.raises(PetctError) as caught:
        index_studies(tmp_path, SETTINGS | settings, tmp_path / "out")
    assert message in str(caught.value)


def run(folder: Path, output: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "--folder", str(folder)]
    command += ["--settings", json.dumps(SETTINGS), "--output-folder", str(output)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_command_line(tmp_path: Path) -> None:
    tiny.write_study(tmp_path / "in" / "a", "rtstruct")
    done = run(tmp_path / "in", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("1 studies, 0 excluded, among 19 files")


def test_missing_empty_and_unrelated_folders_are_one_line(tmp_path: Path) -> None:
    done = run(tmp_path / "absent", tmp_path / "out")
    assert (done.returncode, done.stdout) == (1, "")
    expected = f"error: study folder {tmp_path / 'absent'} does not exist or is not a folder\n"
    assert done.stderr == expected
    (tmp_path / "in" / "sub").mkdir(parents=True)
    assert "is empty, expected DICOM or NIfTI studies" in run(tmp_path / "in", tmp_path).stderr
    (tmp_path / "in" / "sub" / "notes.txt").write_text("nothing")
    assert "none of the 1 files" in run(tmp_path / "in", tmp_path / "out").stderr
    assert not (tmp_path / "out").exists()
