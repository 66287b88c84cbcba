"""From a downloaded folder to the entry that is converted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import dicom_studies as tiny
from petct.downloads import compare_with_stated, locate_download
from petct.errors import PetctError, StudyError

SETTINGS: dict[str, Any] = {"label_pattern": "lesion", "accept": []}


def remote_entry(**changes: Any) -> dict[str, Any]:
    series = {role: {"uid": f"1.2.{role}"} for role in ("pet", "ct", "label")}
    return {
        **{"study": "key", "patient": "other", "format": "idc", "hashed": False},
        **{"series": series, "lesions_stated": True, "warnings": ["said before"]},
        **changes,
    }


def manifest(tmp_path: Path) -> Path:
    return tmp_path / "key" / "download.json"


def test_the_files_stand_under_the_keys_of_the_index(tmp_path: Path) -> None:
    study = tiny.write_study(tmp_path / "key" / "dicom")
    entry = locate_download(remote_entry(), manifest(tmp_path), SETTINGS)
    assert entry["format"] == "dicom"
    assert entry["pet"] == {"series": "1.2.pet", "files": sorted(map(str, study.pet))}
    assert entry["ct"] == {"series": "1.2.ct", "files": sorted(map(str, study.ct))}
    assert entry["label"]["files"] == [str(study.label)]
    assert entry["folder"] == str(tmp_path / "key" / "dicom")
    assert {key: entry[key] for key in ("study", "patient", "hashed", "lesions_stated")} == {
        **{"study": "key", "patient": "other", "hashed": False, "lesions_stated": True}
    }
    assert entry["warnings"] == ["said before"]


def test_a_label_may_only_be_absent_where_the_index_has_none(tmp_path: Path) -> None:
    tiny.write_study(tmp_path / "key" / "dicom", label=None)
    with pytest.raises(StudyError, match="no label"):
        locate_download(remote_entry(), manifest(tmp_path), SETTINGS)
    unlabelled = remote_entry()
    del unlabelled["series"]["label"]
    assert locate_download(unlabelled, manifest(tmp_path), SETTINGS)["label"] is None


def test_what_was_downloaded_must_be_one_study(tmp_path: Path) -> None:
    tiny.write_study(tmp_path / "key" / "dicom" / "1")
    tiny.write_study(tmp_path / "key" / "dicom" / "2")
    with pytest.raises(StudyError, match="2 studies"):
        locate_download(remote_entry(), manifest(tmp_path), SETTINGS)


def test_a_folder_that_is_gone_is_no_fault_of_the_study(tmp_path: Path) -> None:
    with pytest.raises(PetctError, match=r"is gone, but download\.json beside it") as caught:
        locate_download(remote_entry(), manifest(tmp_path), SETTINGS)
    assert not isinstance(caught.value, StudyError)
    with pytest.raises(PetctError, match=r"study key is of format idc and needs its download"):
        locate_download(remote_entry(), None, SETTINGS)


@pytest.mark.parametrize(
    ("stated", "voxels", "warnings"),
    [
        (True, 18, []),
        (False, 0, []),
        (None, 0, []),
        (None, 18, []),
        (False, 18, ["the collection states no lesions, the label has 18 voxels"]),
        (True, 0, ["the collection states lesions, the label has 0 voxels"]),
    ],
)
def test_what_the_collection_states_is_compared(
    stated: bool | None, voxels: int, warnings: list[str]
) -> None:
    assert compare_with_stated({"lesions_stated": stated}, voxels) == warnings
    assert compare_with_stated({}, voxels) == []
