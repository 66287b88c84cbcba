"""Cases by the names of files, and what is no case."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from petct.nnunet_layout import Case, list_cases

FDG = "fdg_0011f3deaf_10445"
PSMA = "psma_95b833d46f153cd2_2018-04-16"


def cases(root: Path, *names: str, channel_names: Any = None) -> list[Case]:
    """Of files by their names below ``root``; only dataset.json is written."""
    found: dict[Path, list[Path]] = defaultdict(list)
    for name in names:
        found[(root / name).parent].append(root / name)
    if channel_names is not None:
        (root / "dataset.json").write_text(json.dumps(channel_names))
    return list_cases(found)


def pair(case: str, images: str = "imagesTr") -> list[str]:
    return [f"{images}/{case}_{number:04d}.nii.gz" for number in (0, 1)]


def test_a_case_of_autopet(tmp_path: Path) -> None:
    (case,) = cases(tmp_path, *pair(FDG), f"labelsTr/{FDG}.nii.gz")
    assert case == Case(
        case=FDG,
        patient="fdg_0011f3deaf",
        folder=tmp_path / "imagesTr",
        pet=tmp_path / f"imagesTr/{FDG}_0001.nii.gz",
        ct=tmp_path / f"imagesTr/{FDG}_0000.nii.gz",
        label=tmp_path / f"labelsTr/{FDG}.nii.gz",
        warnings=(),
        fault="",
    )


def test_studies_of_one_patient_share_it(tmp_path: Path) -> None:
    names = [PSMA, "psma_95b833d46f153cd2_2019-01-02", FDG]
    found = cases(tmp_path, *(file for name in names for file in pair(name)))
    patients = {case.case: case.patient for case in found}
    assert patients == {
        PSMA: "psma_95b833d46f153cd2",
        "psma_95b833d46f153cd2_2019-01-02": "psma_95b833d46f153cd2",
        FDG: "fdg_0011f3deaf",
    }


def test_other_names_tell_no_patient(tmp_path: Path) -> None:
    (case,) = cases(tmp_path, *pair("tumour_01_a"))
    assert (case.case, case.patient, case.label) == ("tumour_01_a", "tumour_01_a", None)
    (warning,) = case.warnings
    assert "its patient is not known" in warning
    assert "tumour" not in warning


def test_tests_have_labels_of_their_own(tmp_path: Path) -> None:
    files = [*pair(FDG), *pair(FDG, "imagesTs"), f"labelsTs/{FDG}.nii.gz"]
    train, test = cases(tmp_path, *files)
    assert (train.folder.name, train.label) == ("imagesTr", None)
    assert (test.folder.name, test.label) == ("imagesTs", tmp_path / f"labelsTs/{FDG}.nii.gz")


@pytest.mark.parametrize(
    ("stated", "pet_number"),
    [
        ({"channel_names": {"0": "CT", "1": "PET"}}, 1),
        ({"channel_names": {"0": "SUV", "1": "CTres"}}, 0),
        ({"modality": {"0": "PT", "1": "ct"}}, 0),
        ({"channel_names": {"0": "CT", "1": "CT"}}, 1),  # both normalised as CT
        ({"channel_names": {"0": "noNorm", "1": "zscore"}}, 1),
        ({"channel_names": {"1": "PET", "0": "PET"}}, 1),
        ({}, 1),
    ],
)
def test_channels_by_their_names(tmp_path: Path, stated: Any, pet_number: int) -> None:
    (case,) = cases(tmp_path, *pair(FDG), channel_names=stated)
    assert case.pet == tmp_path / f"imagesTr/{FDG}_{pet_number:04d}.nii.gz"
    assert case.ct == tmp_path / f"imagesTr/{FDG}_{1 - pet_number:04d}.nii.gz"


@pytest.mark.parametrize("stated", [[1], {"channel_names": ["CT"]}, {"channel_names": {"a": "CT"}}])
def test_channels_that_cannot_be_known(tmp_path: Path, stated: Any) -> None:
    (case,) = cases(tmp_path, *pair(FDG), channel_names=stated)
    assert case.fault.startswith("dataset.json cannot be read (")
    (tmp_path / "dataset.json").write_text("{")
    (case,) = cases(tmp_path, *pair(FDG))
    assert case.fault == "dataset.json cannot be read (JSONDecodeError), expected channel_names"


def test_further_channels_are_said(tmp_path: Path) -> None:
    (case,) = cases(tmp_path, *pair(FDG), f"imagesTr/{FDG}_0002.nii.gz")
    assert case.warnings == ("channel(s) 0002 are not used: CT and PET are others",)
    assert case.fault == ""


def test_missing_channels(tmp_path: Path) -> None:
    (case,) = cases(tmp_path, f"imagesTr/{FDG}_0000.nii.gz")
    assert (case.fault, case.pet) == ("no PET: expected channel 0001", None)
    (case,) = cases(tmp_path, f"imagesTr/{FDG}_0001.nii.gz")
    assert (case.fault, case.ct) == ("", None)


def test_label_without_images(tmp_path: Path) -> None:
    (case,) = cases(tmp_path, f"labelsTr/{FDG}.nii.gz")
    assert case.fault == "a label without images: expected channels 0000 and 0001 in imagesTr"
    assert case.patient == "fdg_0011f3deaf"


def test_image_that_is_no_channel(tmp_path: Path) -> None:
    odd, good = cases(tmp_path, f"imagesTr/{FDG}.nii.gz", *pair(FDG), f"labelsTr/{FDG}.nii.gz")
    assert odd.fault == "not named as a channel is, with four digits at the end"
    assert (odd.case, good.case, good.fault) == (f"{FDG}.nii.gz", FDG, "")


def test_two_data_sets(tmp_path: Path) -> None:
    names = [f"{name}/{file}" for name in "ab" for file in pair(FDG)]
    assert [case.folder.parent.name for case in cases(tmp_path, *names)] == ["a", "b"]
