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

    index_studies(root, tiny.READING, output)

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
    index_studies(root, tiny.READING, output)
    first = (output / "studies" / "a.json").read_bytes()
    for path in (*gone.pet, *gone.ct, gone.label):
        assert path is not None
        path.unlink()
    index_studies(root, tiny.READING, output)
    assert (output / "studies" / "a.json").read_bytes() == first
    assert [path.name for path in (output / "studies").iterdir()] == ["a.json"]


def test_excluded_table_has_a_header_if_nothing_is_excluded(tmp_path: Path) -> None:
    tiny.write_study(tmp_path / "in" / "a", "rtstruct")
    index_studies(tmp_path / "in", tiny.READING, tmp_path / "out")
    assert (tmp_path / "out/excluded.tsv").read_text() == "study\tpatient\tstep\treason\tfile\n"


def test_study_without_label_may_count_as_negative(tmp_path: Path) -> None:
    tiny.write_study(tmp_path / "in" / "a", None)
    index_studies(tmp_path / "in", {**tiny.READING, "missing_label": "negative"}, tmp_path / "out")
    assert table(tmp_path / "out" / "studies.tsv")[0]["label"] == "none"
    assert json.loads((tmp_path / "out/studies/a.json").read_text())["label"] is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"missing_label": "guess"}, "missing_label is 'guess', expected 'exclude' or 'negative'"),
        ({"label_pattern": "(lesion"}, "label_pattern is '(lesion', not a regular expression"),
        ({"keys": "none"}, "keys is 'none', expected 'original' or 'hashed'"),
        ({"unusable_study": "ask"}, "unusable_study is 'ask', expected 'exclude' or 'stop'"),
        ({"accept": ["missing_ct", "all"]}, "accept has all, expected any of uncorrected"),
        ({"keys": "hashed"}, "hashed keys need reading.salt_file"),
    ],
)
def test_wrong_settings(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(PetctError) as caught:
        index_studies(tmp_path, tiny.READING | settings, tmp_path / "out")
    assert message in str(caught.value)


def test_absent_settings(tmp_path: Path) -> None:
    settings = {key: value for key, value in tiny.READING.items() if key not in ("keys", "accept")}
    with pytest.raises(PetctError, match="the settings lack accept, keys"):
        index_studies(tmp_path, settings, tmp_path / "out")


def test_stop_at_the_first_unusable_study_after_the_tables(tmp_path: Path) -> None:
    root, output = tmp_path / "in", tmp_path / "out"
    tiny.write_study(root / "a", "rtstruct")
    tiny.write_study(root / "b", None)
    tiny.write_study(root / "c", None)
    settings = tiny.READING | {"unusable_study": "stop"}
    with pytest.raises(PetctError) as caught:
        index_studies(root, settings, output)
    reason = "no label (SEG, RTSTRUCT or SEG.nii.gz)"
    assert str(caught.value) == f"b cannot be used: {reason} ({root / 'b'})"
    assert [row["study"] for row in table(output / "studies.tsv")] == ["a"]
    assert [row["study"] for row in table(output / "excluded.tsv")] == ["b", "c"]
    index_studies(root, settings, output, only=["a"])  # the others are not asked for
    assert table(output / "excluded.tsv") == []


def test_entry_of_every_layout(tmp_path: Path) -> None:
    root, output = tmp_path / "in", tmp_path / "out"
    tiny.write_study(root / "dicom", "rtstruct")
    names = ["autopet/SUV.nii.gz", "imagesTr/nnunet_0000.nii.gz", "imagesTr/nnunet_0001.nii.gz"]
    for name in names:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    settings = tiny.READING | {"missing_label": "negative", "accept": ["missing_ct"]}
    index_studies(root, settings, output)
    entries = [json.loads(path.read_text()) for path in sorted((output / "studies").iterdir())]
    found = {e["study"]: (e["format"], e["layout"], len(e["ct"]["files"])) for e in entries}
    assert found == {
        "autopet": ("nifti", "autopet", 0),
        "dicom": ("dicom", "", 12),
        "nnunet": ("nifti", "nnunet", 1),
    }
    assert entries[0]["ct"] == {"series": "", "files": []}
    assert {entry["hashed"] for entry in entries} == {False}


def hashed_settings(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "salt").write_text("Jefe\n")
    return tiny.READING | {"keys": "hashed", "salt_file": str(tmp_path / "salt")}


def test_hashed_keys_leave_names_to_the_files_of_entries_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, output = tmp_path / "NAMED-root", tmp_path / "out"
    uids = set()
    for name, label in (("NAMED good", "rtstruct"), ("NAMED bare", None), ("NAMED gated", "seg")):
        written = tiny.write_study(root / name, label, patient=f"NAMED {name}")
        uids |= {str(tiny.pydicom.dcmread(p).SeriesInstanceUID) for p in written.pet + written.ct}
    tiny.edit(written.pet, SeriesType=["GATED", "IMAGE"])
    (root / "NAMED good" / "SEG.nii.gz").touch()  # a warning
    (root / "NAMED.dcm").touch()
    index_studies(root, hashed_settings(tmp_path), output)

    told = capsys.readouterr().out
    assert told.startswith("1 studies, 3 excluded, among 58 files of the study folder\n")
    (row,) = table(output / "studies.tsv")
    (file,) = (output / "studies").iterdir()
    # printf 'study:NAMED-good' | openssl dgst -sha256 -hmac Jefe
    assert (row["study"], row["folder"], file.name) == ("5efcfaaf0227", "-", "5efcfaaf0227.json")
    excluded = table(output / "excluded.tsv")
    assert excluded[0]["file"] == "-"
    assert {row["file"].split("/")[0] for row in excluded[1:]} == {r["study"] for r in excluded[1:]}
    entry = json.loads(file.read_text())
    assert entry["folder"] == str(root / "NAMED good")
    assert (entry["hashed"], entry["warnings"]) == (
        True,
        ["SEG.nii.gz is not used: the study has a DICOM label"],
    )
    for role in ("pet", "ct", "label"):
        assert all(path.startswith(str(root)) for path in entry[role].pop("files"))
    del entry["folder"]
    written_text = told + json.dumps(entry) + "".join(p.read_text() for p in output.glob("*.tsv"))
    assert "NAMED" not in written_text
    assert not [uid for uid in uids if uid in written_text]


def test_only_names_studies_by_their_original_keys(tmp_path: Path) -> None:
    for name in "abc":
        tiny.write_study(tmp_path / "in" / name, "rtstruct" if name != "c" else None)
    output = tmp_path / "out"
    for settings in (tiny.READING, hashed_settings(tmp_path)):
        index_studies(tmp_path / "in", settings, output, only=["b", "c"])
        (study,), (row,) = table(output / "studies.tsv"), table(output / "excluded.tsv")
        (entry,) = (output / "studies").iterdir()
        assert json.loads(entry.read_text())["folder"] == str(tmp_path / "in" / "b")
        hashed = settings["keys"] == "hashed"
        assert {len(study["study"]), len(row["study"])} == ({12} if hashed else {1})


def test_hashed_root_is_not_named_either(tmp_path: Path) -> None:
    with pytest.raises(PetctError, match="the study folder does not exist"):
        index_studies(tmp_path / "absent", hashed_settings(tmp_path), tmp_path / "out")


def run(folder: Path, output: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "--folder", str(folder)]
    command += ["--settings", json.dumps(tiny.READING), "--output-folder", str(output)]
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
