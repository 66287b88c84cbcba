"""The bundled index as it is, and requests to a small one whose answers are known."""

from __future__ import annotations

import builtins
import csv
import json
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import yaml

from download_study import commands
from object_store import index_row, write_index
from petct import imaging_data_commons as commons
from petct.errors import PetctError
from petct.imaging_data_commons import (
    choose_studies,
    index_collection,
    list_studies,
    read_collection,
    read_list,
    study_keys,
)

ROOT = Path(__file__).parents[2]
READING: dict[str, Any] = {
    **{"label_pattern": "lesion", "missing_label": "exclude", "accept": []},
    **{"unusable_study": "exclude", "keys": "original", "salt_file": None},
}
PATIENTS = {"A": 1, "B": 2, "C": 1, "D": 3, "E": 1}  # studies of each


def series(number: int = 0, files: int = 2, size_mb: float = 2.0) -> dict[str, Any]:
    return {
        "crdc_series_uuid": f"u{number}",
        "series_aws_url": f"s3://bucket/u{number}/*",
        "instanceCount": files,
        "series_size_MB": size_mb,
    }


def rows_of(patient: str, study: str, modalities: str = "PT CT SEG") -> list[dict[str, Any]]:
    said = "Segmentation - No tumor lesions detected"
    return [
        index_row(patient, study, modality, series(), said if modality == "SEG" else "Secret")
        for modality in modalities.split()
    ]


def small_collection() -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for patient, count in PATIENTS.items():
        for number in range(count):
            rows += rows_of(patient, f"1.2.{ord(patient)}.1234567{number}")
    return pd.DataFrame(rows)


def request(tmp_path: Path, rows: list[dict[str, Any]], **download: Any) -> dict[str, Any]:
    index = write_index(tmp_path / "index.parquet", rows)
    return {"studies": None, "patients": [], "list": None, "index": str(index), **download}


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.mark.parametrize(
    ("collection", "studies", "patients", "several", "gigabytes", "negative"),
    [
        # Patients with 2, 3, 4 and 5 studies: shared/facts of the FDG collection.
        ("fdg_pet_ct_lesions", 1014, 900, {1: 819, 2: 59, 3: 14, 4: 5, 5: 3}, 419.0, 0),
        ("psma_pet_ct_lesions", 597, 378, None, 117.1, 58),
    ],
)
def test_the_bundled_collections(
    collection: str,
    studies: int,
    patients: int,
    several: dict[int, int] | None,
    gigabytes: float,
    negative: int,
) -> None:
    found, incomplete = list_studies(read_collection(collection, None), optional=())
    assert len(found) == studies and not incomplete
    per_patient = Counter(study.patient for study in found)
    assert len(per_patient) == patients
    if several:
        assert Counter(per_patient.values()) == several
    assert all(set(study.series) == {"pet", "ct", "label"} for study in found)
    assert len({study.study for study in found}) == studies
    assert sum(study.bytes for study in found) / 1e9 == pytest.approx(gigabytes, abs=0.05)
    # DICOM files have even lengths: only if a megabyte is 10^6 bytes are all sizes whole and even.
    assert all(one.bytes % 2 == 0 for study in found for one in study.series.values())
    assert sum(study.lesions_stated is False for study in found) == negative


@pytest.mark.parametrize(
    ("collection", "study", "urls"),
    [
        (
            "fdg_pet_ct_lesions",
            "PETCT_0011f3deaf_55610445",
            {
                "PT": "s3://idc-open-data/0d3594b7-6620-4199-a85b-73d799e886bd/*",
                "CT": "s3://idc-open-data/fddb1857-7a7a-438c-b3b4-7257fd4ecf3d/*",
                "SEG": "s3://idc-open-data/8713b4c8-c02b-459b-ac2f-bf15a504c016/*",
            },
        ),
        (
            "psma_pet_ct_lesions",
            "PSMA_0179419e313f7d8c_17440379",
            {
                "PT": "s3://idc-open-data/059b20e9-8e03-4580-83f9-0ce1357a3286/*",
                "CT": "s3://idc-open-data/58bbe16e-cd11-4594-bff5-9a2f0ba1193d/*",
                "SEG": "s3://idc-open-data/3518b783-625f-497c-bbab-c6ceb48c7724/*",
            },
        ),
    ],
)
def test_the_commands_for_one_study(
    tmp_path: Path, collection: str, study: str, urls: dict[str, str]
) -> None:
    patient = study.rsplit("_", 1)[0]
    download = {"studies": None, "patients": [patient], "list": None, "index": None}
    index_collection(collection, download, 20, READING, tmp_path)
    entry = json.loads((tmp_path / "studies" / f"{study}.json").read_text())
    fixed = "s5cmd --no-sign-request --log error --retry-count 4 --numworkers 16 sync --size-only"
    assert [" ".join(command) for command in commands(entry, None, Path("partial"))] == [
        f"{fixed} {urls[folder]} partial/{folder}/" for folder in ("CT", "SEG", "PT")
    ]


def test_the_first_try_needs_two_gigabytes_at_most(tmp_path: Path) -> None:
    config = yaml.safe_load((ROOT / "config/autopet_small.yaml").read_text())
    download = {"studies": None, "list": None, "index": None} | config["download"]
    index_collection(config["collection"], download, 20, READING, tmp_path)
    source = json.loads((tmp_path / "source.json").read_text())
    assert (source["studies"], source["patients"]) == (11, 11)
    assert source["gigabytes"] == pytest.approx(1.8, abs=0.05)
    entries = [json.loads(path.read_text()) for path in (tmp_path / "studies").iterdir()]
    assert Counter(entry["lesions_stated"] for entry in entries) == {True: 8, False: 3}


def test_an_unknown_collection_is_told_its_neighbours() -> None:
    with pytest.raises(PetctError) as caught:
        read_collection("FDG-PET-CT-Lesion", None)
    message = str(caught.value)
    assert message.startswith("collection 'FDG-PET-CT-Lesion' is none of the ")
    assert "near it: fdg_pet_ct_lesions" in message


def test_an_index_that_is_none(tmp_path: Path) -> None:
    wrong = tmp_path / "index.parquet"
    wrong.write_text("no table")
    for path in (wrong, tmp_path / "absent"):
        with pytest.raises(PetctError, match="cannot be read as a Parquet table of series"):
            read_collection("tiny_lesions", path)
    pd.DataFrame({"collection_id": ["tiny_lesions"]}).to_parquet(wrong)
    with pytest.raises(PetctError, match="cannot be read as a Parquet table of series"):
        read_collection("tiny_lesions", wrong)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        sys.modules, "idc_index_data", SimpleNamespace(IDC_INDEX_PARQUET_FILEPATH=None)
    )
    with pytest.raises(PetctError, match="idc-index-data is installed without its index"):
        read_collection("tiny_lesions", None)
    monkeypatch.delitem(sys.modules, "idc_index_data")
    original = builtins.__import__

    def refuse(name: str, *arguments: Any, **named: Any) -> Any:
        if name == "idc_index_data":
            raise ImportError
        return original(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(PetctError, match="idc-index-data is not installed"):
        read_collection("tiny_lesions", None)


def taken(studies: int | None, seed: int = 20, **names: Any) -> dict[str, int]:
    """The number of studies by patient."""
    chosen = choose_studies(
        small_collection(), studies, names.get("patients", ()), names.get("listed", ()), seed
    )
    pairs = chosen[["PatientID", "StudyInstanceUID"]].drop_duplicates()
    return dict(Counter(pairs["PatientID"]))


def test_without_a_request_all_are_taken() -> None:
    assert taken(None) == PATIENTS


@pytest.mark.parametrize("seed", range(4))
def test_a_larger_number_holds_the_smaller_one(seed: int) -> None:
    before: dict[str, int] = {}
    for studies in range(3, 9):
        now = taken(studies, seed)
        assert before.items() <= now.items() <= PATIENTS.items()
        assert sum(now.values()) <= studies
        before = now
    assert before == PATIENTS


def test_the_order_is_the_seed_s_and_not_the_table_s() -> None:
    first = {tuple(taken(3, seed)) for seed in range(20)}
    assert len(first) > 5
    shuffled = small_collection().sample(frac=1, random_state=1)
    chosen = choose_studies(shuffled, 3, (), (), 20)
    assert set(chosen["PatientID"]) == set(taken(3))


def test_names_choose_and_a_number_limits_them() -> None:
    assert taken(None, patients=["B"]) == {"B": 2}
    assert taken(None, listed=["1.2.68.12345671"]) == {"D": 1}
    assert taken(None, patients=["A"], listed=["E", "1.2.66.12345670"]) == {"A": 1, "B": 1, "E": 1}
    assert taken(2, patients=["B"]) == {"B": 2}


def test_a_number_too_small_for_the_first_patient() -> None:
    with pytest.raises(PetctError, match="studies is 2, but the first patient drawn has 3"):
        taken(2, patients=["D"])


def test_unknown_names_are_listed() -> None:
    with pytest.raises(PetctError, match=r"tiny_lesions has no PatientID X, Y$"):
        taken(None, patients=["Y", "A", "X"])
    with pytest.raises(PetctError, match=r"no PatientID or StudyInstanceUID 1.2.3$"):
        taken(None, listed=["A", "1.2.3"])
    with pytest.raises(PetctError, match=r"N08, N09 and 2 more$"):
        taken(None, patients=[f"N{number:02d}" for number in range(12)])


def test_a_list_of_names(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_text("# first try\nA\n\n  1.2.66.12345670  # its second study\n")
    assert read_list(file) == ["A", "1.2.66.12345670"]
    file.write_text("# nobody\n")
    with pytest.raises(PetctError, match="names nobody"):
        read_list(file)
    with pytest.raises(PetctError, match=r"cannot be read as a text file \(FileNotFoundError\)"):
        read_list(tmp_path / "absent")


def test_keys_are_safe_and_unique() -> None:
    keys = study_keys({"1.2.3.123456789": "P 1/ä", "1.2.3.923456789": "P 1/ä", "1.2.3.4": "Q"})
    assert keys["1.2.3.4"] == "Q_1.2.3.4"
    one, other = keys["1.2.3.123456789"], keys["1.2.3.923456789"]
    assert one.startswith("P-1--_23456789_") and other.startswith("P-1--_23456789_")
    assert one != other


def test_studies_that_are_not_whole_are_told(tmp_path: Path) -> None:
    rows = [
        *rows_of("A", "1.2.1"),
        *rows_of("B", "1.2.2", "PT CT"),
        *rows_of("C", "1.2.3", "PT PT CT SEG"),
        *rows_of("D", "1.2.4", "PT SEG RTSTRUCT"),
        *rows_of("E", "1.2.5", "PT CT SEG SR"),
    ]
    index_collection("tiny_lesions", request(tmp_path, rows), 1, READING, tmp_path)
    assert [row["study"] for row in table(tmp_path / "studies.tsv")] == ["A_1.2.1", "E_1.2.5"]
    excluded = table(tmp_path / "excluded.tsv")
    assert list(excluded[0]) == ["study", "patient", "step", "reason", "file"]
    assert {row["study"]: row["reason"] for row in excluded} == {
        "B_1.2.2": "the index lists 1 PT, 1 CT, 0 SEG series, expected one of each",
        "C_1.2.3": "the index lists 2 PT, 1 CT, 1 SEG series, expected one of each",
        "D_1.2.4": "the index lists 1 PT, 0 CT, 1 SEG series, expected one of each",
    }
    assert {row["file"] for row in excluded} == {"idc:tiny_lesions"}

    lenient = READING | {"missing_label": "negative", "accept": ["missing_ct"]}
    index_collection("tiny_lesions", request(tmp_path, rows), 1, lenient, tmp_path)
    assert {row["study"]: row["label"] for row in table(tmp_path / "studies.tsv")} == {
        **{"A_1.2.1": "seg", "B_1.2.2": "none", "D_1.2.4": "seg", "E_1.2.5": "seg"}
    }
    assert len(list((tmp_path / "studies").iterdir())) == 4

    with pytest.raises(PetctError, match=r"study B_1.2.2 cannot be used: the index lists 1 PT"):
        index_collection(
            "tiny_lesions", request(tmp_path, rows), 1, READING | {"unusable_study": "stop"},
            tmp_path,
        )  # fmt: skip
    assert len(table(tmp_path / "excluded.tsv")) == 3


def test_an_entry_and_what_is_to_be_cited(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index_collection("tiny_lesions", request(tmp_path, rows_of("A", "1.2.1")), 1, READING, tmp_path)
    entry = json.loads((tmp_path / "studies" / "A_1.2.1.json").read_text())
    remote = {"url": "s3://bucket/u0/*", "files": 2, "bytes": 2_000_000}
    assert len(entry.pop("fingerprint")) == 64
    assert entry == {
        "study": "A_1.2.1",
        "patient": "A",
        "format": "idc",
        "layout": "",
        "folder": "idc:tiny_lesions",
        "hashed": False,
        **{"pet": None, "ct": None, "label": None},
        "series": {
            "pet": remote | {"uid": "1.2.1.PT"},
            "ct": remote | {"uid": "1.2.1.CT"},
            "label": remote | {"uid": "1.2.1.SEG"},
        },
        "lesions_stated": False,
        "warnings": [],
    }
    assert json.loads((tmp_path / "source.json").read_text()) == {
        "source": "Imaging Data Commons",
        "collection": "tiny_lesions",
        "index": str(tmp_path / "index.parquet"),
        "licences": ["CC BY 4.0"],
        "dois": ["10.1234/tiny"],
        **{"studies": 1, "patients": 1, "files": 6, "gigabytes": 0.006},
    }
    log = capsys.readouterr().out
    assert "1 studies, 0 excluded, of collection tiny_lesions" in log
    assert "to download: 1 studies of 1 patients, 6 files, 0.0 GB" in log
    assert "licence CC BY 4.0; cite https://doi.org/10.1234/tiny" in log


@pytest.mark.parametrize(
    ("description", "stated"),
    [
        ("Segmentation - No tumor lesions detected", False),
        ("Segmentation - Tumor lesions detected", True),
        ("Segmentation", None),
        (float("nan"), None),
    ],
)
def test_what_a_label_s_description_states(description: Any, stated: bool | None) -> None:
    assert commons._lesions_stated(description) is stated


def test_hashed_keys_tell_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    salt = tmp_path / "salt"
    salt.write_text("secret")
    rows = [*rows_of("PATIENT7", "1.2.77.1"), *rows_of("PATIENT8", "1.2.77.2", "PT CT")]
    hashed = READING | {"keys": "hashed", "salt_file": str(salt)}
    output = tmp_path / "out"
    index_collection("tiny_lesions", request(tmp_path, rows), 1, hashed, output)
    (entry,) = (output / "studies").iterdir()
    texts = [path.read_text() for path in output.iterdir() if path.is_file()]
    everything = "".join([*texts, entry.read_text(), capsys.readouterr().out])
    for marker in ("PATIENT7", "PATIENT8", "1.2.77", "Secret"):
        assert marker not in everything
    assert len(entry.stem) == 12
    (row,) = table(output / "studies.tsv")
    assert row["study"] == entry.stem != row["patient"]
    assert len(table(output / "excluded.tsv")[0]["patient"]) == 12
    assert json.loads(entry.read_text())["hashed"] is True
    with pytest.raises(PetctError, match="salt_file"):
        index_collection(
            "tiny_lesions", request(tmp_path, rows), 1, READING | {"keys": "hashed"}, output
        )
