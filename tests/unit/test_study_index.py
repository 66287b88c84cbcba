"""Grouping of headers into studies, keys, and the choice of a label."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pydicom
import pytest

import dicom_studies as tiny
from petct.errors import PetctError, StudyError
from petct.file_tree import Header, read_header, read_tree
from petct.study_index import Excluded, Study, find_one, find_studies, fingerprint, study_keys
from petct.study_keys import hashed_key


def find(
    root: Path, missing_label: str = "exclude", **changed: Any
) -> tuple[list[Study], list[Excluded]]:
    settings = tiny.READING | {"missing_label": missing_label} | changed
    return find_studies(read_tree(root, workers=1), root, settings)


def only(root: Path, missing_label: str = "exclude", **changed: Any) -> Study:
    (study,), excluded = find(root, missing_label, **changed)
    assert excluded == []
    return study


def reason(root: Path, **changed: Any) -> Excluded:
    studies, (row,) = find(root, **changed)
    assert studies == []
    return row


def test_keys_come_from_the_folder() -> None:
    root = Path("/root")
    folders = {"1.22222222": root / "a" / "b c", "1.33333333": root / "ä"}
    assert study_keys(folders, root) == {"1.22222222": "a_b-c", "1.33333333": "-"}


def test_keys_of_studies_that_share_a_folder_or_fill_the_root_end_with_the_uid() -> None:
    root = Path("/root")
    folders = {"1.2.11111111": root / "a", "1.2.22222222": root / "a", "1.2.345.6789": root}
    assert list(study_keys(folders, root).values()) == ["a_11111111", "a_22222222", "345.6789"]


def test_keys_stay_unique_and_short_enough_for_a_file_name() -> None:
    root = Path("/root")
    folders = {"1": root / "a b", "2": root / "a-b", "3": root / "a" / "b", "4": root / "a_b"}
    folders |= {"5": root / ("x" * 200), "6": root / ("x" * 201)}
    keys = list(study_keys(folders, root).values())
    assert len(set(keys)) == 6
    assert max(map(len, keys)) < 160
    assert keys[0].startswith("a-b_")


def test_study_is_found_by_header(tmp_path: Path) -> None:
    written = tiny.write_study(tmp_path / "p" / "visit 1", "rtstruct")
    study = only(tmp_path)
    assert (study.study, study.patient, study.format) == ("p_visit-1", "P1", "dicom")
    assert study.folder == tmp_path / "p" / "visit 1"
    assert study.pet == tuple(sorted(written.pet))
    assert study.ct == tuple(sorted(written.ct))
    assert study.label is not None
    assert (study.label.kind, study.label.refers_to) == ("rtstruct", "pet")
    assert study.label.files == (written.label,)
    assert study.warnings == ()


def test_fingerprint_changes_with_a_file(tmp_path: Path) -> None:
    written = tiny.write_study(tmp_path / "s", "rtstruct")
    before = fingerprint(only(tmp_path), tmp_path)
    assert fingerprint(only(tmp_path), tmp_path) == before
    tiny.edit(written.pet[0], PatientWeight=71.25)
    assert fingerprint(only(tmp_path), tmp_path) != before


def test_without_prefix_and_with_other_files_around(tmp_path: Path) -> None:
    written = tiny.write_study(tmp_path / "s", "rtstruct")
    tiny.strip_prefix([*written.pet, *written.ct])
    (tmp_path / "s" / "README.txt").write_text("notes " * 100)
    (tmp_path / "s" / "a" / "preview.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(300))
    (tmp_path / "s" / "empty.log").touch()
    (tmp_path / "s" / ".hidden.dcm").write_text("not an image")
    (tmp_path / "s" / "nifti").mkdir()
    (tmp_path / "s" / "nifti" / "PET_mask.nii.gz").write_bytes(b"\x1f\x8b")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert only(tmp_path).pet == tuple(sorted(written.pet))


def test_dicomdir_is_ignored(tmp_path: Path) -> None:
    tiny.write_study(tmp_path, "rtstruct", study_uid="1.2.12345678")
    directory = tiny._file(pydicom.uid.MediaStorageDirectoryStorage)
    directory.save_as(tmp_path / "DICOMDIR", enforce_file_format=True)
    assert read_header(tmp_path / "DICOMDIR") is None
    assert only(tmp_path).study == "12345678"


def test_other_images_are_no_candidates(tmp_path: Path) -> None:
    written = tiny.write_study(tmp_path / "s", "rtstruct")
    scout = tiny.write_ct(tmp_path / "s" / "scout", uid_of(written))
    tiny.edit(scout, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    capture = tiny.write_pet(tmp_path / "s" / "mip", uid_of(written))
    tiny.edit(capture, SOPClassUID=pydicom.uid.SecondaryCaptureImageStorage)
    assert only(tmp_path).ct == tuple(sorted(written.ct))


def uid_of(written: tiny.TinyStudy) -> str:
    return str(pydicom.dcmread(written.ct[0], stop_before_pixels=True).StudyInstanceUID)


def test_no_pet(tmp_path: Path) -> None:
    written = tiny.write_study(tmp_path / "s", None)
    for path in written.pet:
        path.unlink()
    row = reason(tmp_path)
    assert (row.study, row.patient) == ("s_b", "P1")
    assert row.reason == "no PT series (found: CT 12 file(s))"
    assert row.file == str(tmp_path / "s" / "b")


def test_no_ct(tmp_path: Path) -> None:
    written = tiny.write_study(tmp_path / "s", None)
    for path in written.ct:
        path.unlink()
    assert reason(tmp_path).reason == "no CT series (found: PT 6 file(s))"


def series_of(paths: list[Path]) -> str:
    return str(pydicom.dcmread(paths[0]).SeriesInstanceUID)


def test_the_label_decides_between_two_pets_and_two_cts(tmp_path: Path) -> None:
    written = tiny.write_study(tmp_path / "s", None)
    pet = tiny.write_pet(tmp_path / "s" / "second", uid_of(written))
    ct = tiny.write_ct(tmp_path / "s" / "second", uid_of(written))
    pets, cts = (written.pet, pet), (written.ct, ct)
    tiny.edit([*pet, *ct], SeriesNumber=2)
    study = only(tmp_path, "negative")
    assert (study.pet_series, study.ct_series) == (series_of(written.pet), series_of(written.ct))
    for chosen, other in (pets, pets[::-1]):
        label = tmp_path / "s" / "rt"
        tiny.write_rtstruct(label, chosen, {"GTV": tiny.block_contours()})
        study = only(tmp_path)
        assert study.label is not None and study.label.refers_to == "pet"
        assert study.pet == tuple(sorted(chosen))
        assert study.ct_series == series_of(written.ct)
        names = f"{series_of(chosen)} is taken over {series_of(other)}"
        said = f"PT series {names}: a label refers to the series taken"
        assert said in study.warnings
    for chosen, _ in (cts, cts[::-1]):
        tiny.write_rtstruct(label, chosen, {"GTV": tiny.block_contours()})
        study = only(tmp_path)
        assert study.label is not None and study.label.refers_to == "ct"
        assert study.ct == tuple(sorted(chosen))
        assert study.pet_series == series_of(written.pet)


def test_the_images_drawn_on_decide_between_two_pets(tmp_path: Path) -> None:
    written = tiny.write_study(tmp_path / "s", None)
    second = tiny.write_pet(tmp_path / "s" / "second", uid_of(written))
    tiny.edit(second, SeriesNumber=2)
    file = tiny.write_rtstruct(tmp_path / "s" / "rt", second, {"GTV": tiny.block_contours()})
    instance = str(pydicom.dcmread(second[1]).SOPInstanceUID)
    draw_on(file, instance)
    study = only(tmp_path)
    assert study.pet_series == series_of(second)
    assert study.label is not None and study.label.refers_to == "pet"


def test_labels_of_two_pets(tmp_path: Path) -> None:
    """The PET that is taken by the other rules has its own label; the other's is not used."""
    written = tiny.write_study(tmp_path / "s", "rtstruct")
    second = tiny.write_pet(tmp_path / "s" / "second", uid_of(written))
    tiny.edit(second, SeriesType=["STATIC", "IMAGE"])
    other = tiny.write_rtstruct(tmp_path / "s" / "rt", second, {"GTV": tiny.block_contours()})
    study = only(tmp_path)
    assert study.pet_series == series_of(written.pet)
    assert study.label is not None and study.label.files == (written.label,)
    assert study.warnings[1] == f"labels of other series are not used: {other}"


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({"SeriesType": ["DYNAMIC", "IMAGE"]}, "SeriesType (0054,1000) is DYNAMIC, expected"),
        ({"CorrectedImage": ["DECY", "NORM"]}, "CorrectedImage (0028,0051) has no ATTN"),
        ({"CorrectedImage": "DECY"}, "CorrectedImage (0028,0051) has no ATTN"),
        ({"SeriesType": ["WHOLE BODY", "REPROJECTION"]}, "a projection"),
        ({"ImageType": ["DERIVED", "SECONDARY", "MIP"]}, "a projection"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "a screen save"),
    ],
)
def test_pet_that_is_unusable_by_its_header(
    tmp_path: Path, tags: dict[str, Any], said: str
) -> None:
    written = tiny.write_study(tmp_path / "s", "rtstruct")
    tiny.edit(written.pet, **tags)
    row = reason(tmp_path)
    assert row.reason.startswith(f"no usable PT series: PT series {series_of(written.pet)}: ")
    assert said in row.reason
    assert row.file == str(sorted(written.pet)[0])
    # A second series that is usable takes its place.
    second = tiny.write_pet(tmp_path / "s" / "second", uid_of(written))
    study = only(tmp_path)
    assert study.pet == tuple(sorted(second))
    assert study.warnings[0].startswith(f"PT series {series_of(written.pet)} is left out: ")


def test_uncorrected_pet_may_be_accepted(tmp_path: Path) -> None:
    written = tiny.write_study(tmp_path / "s", "rtstruct")
    tiny.edit(written.pet, CorrectedImage=["DECY"])
    assert only(tmp_path, accept=["uncorrected"]).pet == tuple(sorted(written.pet))


def test_derived_pet_is_a_pet(tmp_path: Path) -> None:
    written = tiny.write_study(tmp_path / "s", "rtstruct")
    tiny.edit(written.pet, ImageType=["DERIVED", "SECONDARY"])
    assert only(tmp_path).warnings == ()


def test_tags_that_only_the_choice_needs_may_be_anything(tmp_path: Path) -> None:
    written = tiny.write_study(tmp_path / "s", "rtstruct")
    for path in written.ct:  # as a file on disk may have it: IS and DS that are no numbers
        content = path.read_bytes()
        number = content.index(b"\x20\x00\x11\x00IS")
        assert content[number + 6 : number + 8] == b"\x02\x00"
        path.write_bytes(content[: number + 8] + b"x " + content[number + 10 :])
    header = read_header(written.ct[0])
    assert isinstance(header, Header)
    assert header.series_number is None
    assert only(tmp_path).ct == tuple(sorted(written.ct))
    tiny.edit(written.ct, ImagePositionPatient=None)
    header = read_header(written.ct[0])
    assert isinstance(header, Header)
    assert header.position_mm is None


def test_ct_may_be_missing_if_accepted(tmp_path: Path) -> None:
    written = tiny.write_study(tmp_path / "s", "rtstruct")
    tiny.edit(written.ct, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    assert "no usable CT series" in reason(tmp_path).reason
    for path in written.ct:
        path.unlink()
    study = only(tmp_path, accept=["missing_ct"])
    assert (study.ct_series, study.ct) == ("", ())
    found = "PT 6 file(s), RTSTRUCT 1 file(s)"
    said = f"no CT series (found: {found}); its CT is -1024 HU everywhere"
    assert study.warnings == (said,)


def test_missing_patient_id(tmp_path: Path) -> None:
    tiny.write_study(tmp_path / "s", "rtstruct", patient=None)
    assert reason(tmp_path).reason == "PatientID (0010,0020) is missing"


def test_series_of_two_patients(tmp_path: Path) -> None:
    written = tiny.write_study(tmp_path / "s", "rtstruct")
    tiny.edit(written.ct, PatientID="P2")
    assert "2 different PatientID (0010,0020)" in reason(tmp_path).reason


def test_pet_and_ct_of_different_frames_of_reference(tmp_path: Path) -> None:
    written = tiny.write_study(tmp_path / "s", "rtstruct")
    tiny.edit(written.ct, FrameOfReferenceUID="1.2.9")
    assert only(tmp_path).warnings == ("PET and CT differ in FrameOfReferenceUID (0020,0052)",)


def test_no_label(tmp_path: Path) -> None:
    tiny.write_study(tmp_path / "s", None)
    assert reason(tmp_path).reason == "no label (SEG, RTSTRUCT or SEG.nii.gz)"
    assert only(tmp_path, "negative").label is None


def test_the_label_of_the_pet_comes_before_the_label_of_the_ct(tmp_path: Path) -> None:
    written = tiny.write_study(tmp_path / "s", "rtstruct")
    contours = {"GTV": tiny.block_contours()}
    on_ct = tiny.write_rtstruct(tmp_path / "s" / "c" / "0", written.ct, contours)
    label = only(tmp_path).label
    assert label is not None
    assert (label.files, label.refers_to) == ((written.label,), "pet")
    assert written.label is not None
    written.label.unlink()
    label = only(tmp_path).label
    assert label is not None
    assert (label.files, label.refers_to) == ((on_ct,), "ct")


def test_two_labels_of_the_pet(tmp_path: Path) -> None:
    written = tiny.write_study(tmp_path / "s", "rtstruct")
    assert written.label is not None
    second = tmp_path / "s" / "c" / "8"
    tiny.write_rtstruct(second, written.pet, {"GTV 2": tiny.block_contours()})
    row = reason(tmp_path)
    assert "2 labels refer to the same series" in row.reason
    assert str(second) in row.reason and str(written.label) in row.reason
    # If only one of them has names of lesions, it is the label.
    tiny.write_rtstruct(second, written.pet, {"Liver": tiny.block_contours()})
    study = only(tmp_path)
    assert study.label is not None and study.label.files == (written.label,)
    said = f"labels without a name that matches label_pattern are not used: {second}"
    assert study.warnings == (said,)


def test_a_label_with_names_of_lesions_comes_before_one_of_the_pet_without(tmp_path: Path) -> None:
    written = tiny.write_study(tmp_path / "s", None)
    organs = {"Liver": tiny.block_contours()}
    tiny.write_rtstruct(tmp_path / "s" / "organs", written.pet, organs)
    lesions = {"GTV": tiny.block_contours()}
    file = tiny.write_rtstruct(tmp_path / "s" / "lesions", written.ct, lesions)
    label = only(tmp_path).label
    assert label is not None
    assert (label.files, label.refers_to) == ((file,), "ct")


def draw_on(file: Path, instance: str) -> None:
    """Let the first contour of an RTSTRUCT be all that tells which image it belongs to."""

    def change(dataset: tiny.Dataset) -> None:
        del dataset.ReferencedFrameOfReferenceSequence
        image = tiny.Dataset()
        image.ReferencedSOPInstanceUID = instance
        dataset.ROIContourSequence[0].ContourSequence[0].ContourImageSequence = [image]

    tiny.edit(file, change)


def test_label_of_a_series_by_its_instances(tmp_path: Path) -> None:
    written = tiny.write_study(tmp_path / "s", None)
    file = tiny.write_rtstruct(tmp_path / "s" / "rt", written.ct, {"GTV": tiny.block_contours()})
    draw_on(file, str(pydicom.dcmread(written.pet[0]).SOPInstanceUID))
    label = only(tmp_path).label
    assert label is not None and label.refers_to == "pet"


def test_label_of_a_frame_of_reference_and_of_nothing(tmp_path: Path) -> None:
    written = tiny.write_study(tmp_path / "s", "rtstruct")
    assert written.label is not None

    def change(dataset: tiny.Dataset) -> None:
        frame = dataset.ReferencedFrameOfReferenceSequence[0]
        frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0].SeriesInstanceUID = "1.9"

    tiny.edit(written.label, change)
    study = only(tmp_path)
    assert study.label is not None and study.label.refers_to == "frame"
    assert "neither the PET nor the CT" in study.warnings[0]
    tiny.edit(written.label, ReferencedFrameOfReferenceSequence=None, FrameOfReferenceUID="1.8")
    assert "refers neither to the PET or CT series" in reason(tmp_path).reason


def test_seg_refers_to_its_series(tmp_path: Path) -> None:
    tiny.write_study(tmp_path / "s", "seg")
    label = only(tmp_path).label
    assert label is not None
    assert (label.kind, label.refers_to) == ("seg", "pet")


def test_nifti_label_in_a_dicom_study(tmp_path: Path) -> None:
    tiny.write_study(tmp_path / "s", None)
    file = tmp_path / "s" / "label" / "SEG.nii.gz"
    file.parent.mkdir()
    file.write_bytes(b"\x1f\x8b")
    study = only(tmp_path)
    assert study.label is not None
    assert (study.label.kind, study.label.files) == ("nifti", (file,))
    second = tmp_path / "s" / "SEG.nii.gz"
    second.write_bytes(b"\x1f\x8b")
    assert "several NIfTI labels" in reason(tmp_path).reason


def test_dicom_label_comes_before_a_nifti_label(tmp_path: Path) -> None:
    written = tiny.write_study(tmp_path / "s", "rtstruct")
    (tmp_path / "s" / "SEG.nii.gz").write_bytes(b"\x1f\x8b")
    study = only(tmp_path)
    assert study.label is not None and study.label.files == (written.label,)
    assert study.warnings == ("SEG.nii.gz is not used: the study has a DICOM label",)


def nifti_study(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes(b"\x1f\x8b")
    return folder


def test_nifti_release(tmp_path: Path) -> None:
    full = ("SUV.nii.gz", "CT.nii.gz", "CTres.nii.gz", "PET.nii.gz", "SEG.nii.gz")
    first = nifti_study(tmp_path / "PETCT_1" / "01-01-2001", *full)
    second = nifti_study(tmp_path / "PETCT_2" / "01-01-2001", "SUV.nii.gz", "CTres.nii.gz")
    third = nifti_study(tmp_path / "alone", *full)
    studies, excluded = find(tmp_path, "negative")
    assert excluded == []
    assert [s.study for s in studies] == ["PETCT_1_01-01-2001", "PETCT_2_01-01-2001", "alone"]
    assert [s.patient for s in studies] == ["PETCT_1", "PETCT_2", "alone"]
    assert [s.ct[0] for s in studies] == [
        first / "CT.nii.gz",
        second / "CTres.nii.gz",
        third / "CT.nii.gz",
    ]
    assert studies[0].label is not None and studies[0].label.files == (first / "SEG.nii.gz",)
    assert studies[1].label is None


def test_incomplete_nifti_studies_are_reported(tmp_path: Path) -> None:
    nifti_study(tmp_path / "a", "SUV.nii.gz", "SEG.nii.gz")
    nifti_study(tmp_path / "b", "CT.nii.gz", "SEG.nii.gz")
    nifti_study(tmp_path / "c", "CT.nii.gz", "SUV.nii.gz")
    studies, excluded = find(tmp_path)
    assert studies == []
    assert {row.file: row.reason.split(":")[0] for row in excluded} == {
        str(tmp_path / "a"): "no CT",
        str(
            tmp_path / "b"
        ): "CT.nii.gz, SEG.nii.gz without SUV.nii.gz or a DICOM study to belong to",
        str(tmp_path / "c"): "no label (SEG, RTSTRUCT or SEG.nii.gz)",
    }


def test_activity_alone_is_no_suv(tmp_path: Path) -> None:
    folder = nifti_study(tmp_path / "p" / "a", "PET.nii.gz", "CTres.nii.gz", "SEG.nii.gz")
    row = reason(tmp_path)
    assert (row.study, row.patient, row.file) == ("p_a", "p", str(folder / "PET.nii.gz"))
    assert row.reason.startswith("PET.nii.gz alone is in Bq/mL")
    assert row.reason.endswith("expected SUV.nii.gz in g/mL")


def test_nifti_study_without_ct_may_be_accepted(tmp_path: Path) -> None:
    folder = nifti_study(tmp_path / "a", "SUV.nii.gz", "SEG.nii.gz")
    study = only(tmp_path, accept=["missing_ct"])
    assert (study.pet, study.ct) == ((folder / "SUV.nii.gz",), ())
    said = "no CT: expected CT.nii.gz or CTres.nii.gz; its CT is -1024 HU everywhere"
    assert study.warnings == (said,)


FDG = "fdg_0011f3deaf_10445"


def nnunet_study(root: Path, case: str, channels: tuple[int, ...] = (0, 1)) -> None:
    images = [f"{case}_{number:04d}.nii.gz" for number in channels]
    for folder, names in (("imagesTr", images), ("labelsTr", [f"{case}.nii.gz"])):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            (root / folder / name).write_bytes(b"\x1f\x8b")


def test_nnunet_layout(tmp_path: Path) -> None:
    nnunet_study(tmp_path / "Dataset221", FDG)
    nnunet_study(tmp_path / "Dataset221", "other")
    (tmp_path / "Dataset221" / "labelsTr" / "other.nii.gz").unlink()
    (study, second), excluded = find(tmp_path, "negative")
    assert excluded == []
    images = tmp_path / "Dataset221" / "imagesTr"
    assert (study.study, study.patient) == (FDG, "fdg_0011f3deaf")
    assert (study.format, study.layout, study.folder) == ("nifti", "nnunet", images)
    assert study.pet == (images / f"{FDG}_0001.nii.gz",)
    assert study.ct == (images / f"{FDG}_0000.nii.gz",)
    assert study.label is not None
    label = tmp_path / "Dataset221" / "labelsTr" / f"{FDG}.nii.gz"
    assert (study.label.kind, study.label.files) == ("nifti", (label,))
    assert study.warnings == ()
    assert (second.study, second.patient, second.label) == ("other", "other", None)
    assert "its patient is not known" in second.warnings[0]
    ((row,), (study,)) = (found := find(tmp_path))[1], found[0]
    assert (row.study, row.reason) == ("other", "no label (SEG, RTSTRUCT or SEG.nii.gz)")


def test_incomplete_nnunet_cases_are_reported(tmp_path: Path) -> None:
    nnunet_study(tmp_path, "no_pet", (0,))
    nnunet_study(tmp_path, "no_ct", (1,))
    nnunet_study(tmp_path, "orphan", ())
    (tmp_path / "imagesTr" / "odd.nii.gz").touch()
    studies, excluded = find(tmp_path)
    assert studies == []
    assert {row.study: row.reason for row in excluded} == {
        "no_pet": "no PET: expected channel 0001",
        "no_ct": "no channel of the CT beside that of the PET",
        "orphan": "a label without images: expected channels 0000 and 0001 in imagesTr",
        "odd.nii.gz": "not named as a channel is, with four digits at the end",
    }
    (study,), _ = find(tmp_path, accept=["missing_ct"])
    assert (study.study, study.ct) == ("no_ct", ())
    assert study.warnings[-1].endswith("; its CT is -1024 HU everywhere")


def test_one_case_of_two_data_sets_has_two_keys(tmp_path: Path) -> None:
    nnunet_study(tmp_path / "one", FDG)
    nnunet_study(tmp_path / "two", FDG)
    studies, excluded = find(tmp_path)
    assert (len({study.study for study in studies}), excluded) == (2, [])
    assert {study.patient for study in studies} == {"fdg_0011f3deaf"}


def test_bids_is_named(tmp_path: Path) -> None:
    file = tmp_path / "sub-01" / "pet" / "sub-01_pet.nii.gz"
    file.parent.mkdir(parents=True)
    file.touch()
    row = reason(tmp_path)
    assert (row.study, row.file) == ("", str(file))
    assert row.reason.startswith("a PET in BIDS, which has no place for a CT")


def test_the_one_study_of_a_folder(tmp_path: Path) -> None:
    written = tiny.write_study(tmp_path / "s", "rtstruct")
    study = find_one(tmp_path / "s", tiny.READING)
    assert study.pet == tuple(sorted(written.pet))
    assert study.study == uid_of(written)[-8:].lstrip(".")
    (tmp_path / "s" / "lone.dcm").touch()
    with pytest.raises(StudyError, match="a file beside its slices is damaged") as caught:
        find_one(tmp_path / "s", tiny.READING)
    assert caught.value.source == str(tmp_path / "s" / "lone.dcm")
    (tmp_path / "s" / "lone.dcm").unlink()
    tiny.write_study(tmp_path / "t", "rtstruct")
    with pytest.raises(StudyError, match="the folder holds 2 studies, expected one"):
        find_one(tmp_path, tiny.READING)
    (tmp_path / "none").mkdir()
    with pytest.raises(StudyError, match="the folder holds 0 studies, expected one") as caught:
        find_one(tmp_path / "none", tiny.READING)
    assert caught.value.source == str(tmp_path / "none")


def hashes(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "salt").write_text("Jefe")
    return {"keys": "hashed", "salt_file": str(tmp_path / "salt")}


def test_hashed_study_holds_no_name_of_its_own(tmp_path: Path) -> None:
    root = tmp_path / "in"
    written = tiny.write_study(root / "visit", "rtstruct")
    second = tiny.write_pet(root / "visit" / "second", uid_of(written))
    organs = root / "visit" / "organs"
    tiny.write_rtstruct(organs, written.pet, {"Liver": tiny.block_contours()})
    plain = only(root)
    study = only(root, **hashes(tmp_path))
    # printf 'study:visit' | openssl dgst -sha256 -hmac Jefe
    assert (study.study, study.patient) == ("2963a7872479", "a90e37c0fdb6")
    assert study.hashed and not plain.hashed
    assert (study.pet, study.ct, study.label) == (plain.pet, plain.ct, plain.label)
    series = {
        uid: hashed_key(b"Jefe", "series", uid) for uid in map(series_of, (written.pet, second))
    }
    assert (study.pet_series, study.ct_series) == (
        series[plain.pet_series],
        hashed_key(b"Jefe", "series", plain.ct_series),
    )
    other = next(uid for uid in series if uid != plain.pet_series)
    assert study.warnings == (
        f"PT series {study.pet_series} is taken over {series[other]}: a label refers to the series "
        "taken",
        f"labels without a name that matches label_pattern are not used: {study.study}/other/1",
    )


def test_hashed_rows_hold_no_path(tmp_path: Path) -> None:
    root = tmp_path / "in"
    written = tiny.write_study(root / "visit", "rtstruct")
    lone = root / "lone.dcm"
    lone.touch()
    files = sorted(written.pet)
    files[2].write_bytes(files[2].read_bytes()[:300])
    key, patient = "2963a7872479", "a90e37c0fdb6"
    _, (stray, row) = find(root, **hashes(tmp_path))
    assert stray == Excluded("", "", "named as DICOM, but it does not begin as DICOM does", "-")
    # The damaged file is of no known role.
    assert (row.study, row.patient, row.file) == (key, patient, f"{key}/other/1")
    written = tiny.write_study(root / "visit", "rtstruct")
    tiny.edit(written.pet, SeriesType=["GATED", "IMAGE"])
    _, (stray, row) = find(root, **hashes(tmp_path))
    uid = hashed_key(b"Jefe", "series", series_of(written.pet))
    assert row.reason.startswith(f"no usable PT series: PT series {uid}: SeriesType (0054,1000)")
    assert row.file == f"{key}/pet/1"
    tiny.edit(written.pet, SeriesType=["STATIC", "IMAGE"])
    tiny.write_rtstruct(root / "visit" / "x", written.pet, {"GTV": tiny.block_contours()})
    _, (stray, row) = find(root, **hashes(tmp_path))
    listed = f"{key}/label/1 and {key}/label/2"
    assert row.reason == f"2 labels refer to the same series: {listed}; expected one"
    assert row.file in (f"{key}/label/1", f"{key}/label/2")


def test_hashed_study_without_patient(tmp_path: Path) -> None:
    tiny.write_study(tmp_path / "in" / "visit", "rtstruct", patient=None)
    row = reason(tmp_path / "in", **hashes(tmp_path))
    assert (row.patient, row.reason) == ("", "PatientID (0010,0020) is missing")
    assert row.file.startswith("2963a7872479/pet/")


def test_hashed_cases_of_nnunet(tmp_path: Path) -> None:
    nnunet_study(tmp_path / "in", FDG)
    nnunet_study(tmp_path / "in", "no_pet", (0,))
    (study,), (row,) = find(tmp_path / "in", **hashes(tmp_path))
    assert study.patient == hashed_key(b"Jefe", "patient", "fdg_0011f3deaf")
    assert study.study == hashed_key(b"Jefe", "study", FDG)
    key = hashed_key(b"Jefe", "study", "no_pet")
    assert (row.study, row.file) == (key, f"{key}/ct/1")


def test_hashes_need_a_salt(tmp_path: Path) -> None:
    with pytest.raises(PetctError, match="hashed keys need"):
        find(tmp_path, keys="hashed")


def test_nifti_images_beside_a_dicom_study_are_not_a_second_study(tmp_path: Path) -> None:
    tiny.write_study(tmp_path / "s", "rtstruct")
    nifti_study(tmp_path / "s" / "converted", "SUV.nii.gz", "CT.nii.gz")
    study = only(tmp_path)
    assert study.format == "dicom"
    assert study.warnings == ("NIfTI images in its folder are not used: it is read from DICOM",)


def test_damaged_file_beside_the_slices_excludes_the_study(tmp_path: Path) -> None:
    written = tiny.write_study(tmp_path / "s", "rtstruct")
    content = written.pet[2].read_bytes()
    written.pet[2].write_bytes(content[:300])
    row = reason(tmp_path)
    assert row.study == "s"
    assert "a file beside its slices is damaged: DICOM" in row.reason
    assert row.file == str(written.pet[2])


def test_damaged_label_in_its_own_folder_excludes_the_study(tmp_path: Path) -> None:
    written = tiny.write_study(tmp_path / "s", "rtstruct")
    assert written.label is not None
    written.label.write_bytes(written.label.read_bytes()[:300])
    _, (row,) = find(tmp_path, "negative")  # and is not mistaken for no label
    assert (row.study, row.file) == ("s", str(written.label))


@pytest.mark.parametrize("length", [0, 60, 128, 131])
def test_label_cut_short_before_its_prefix_excludes_the_study(tmp_path: Path, length: int) -> None:
    written = tiny.write_study(tmp_path / "s", "rtstruct")
    assert written.label is not None
    written.label.write_bytes(
        written.label.read_bytes()[: min(length, 128)] + b"\0" * (length > 128)
    )
    _, (row,) = find(tmp_path, "negative")
    assert (row.study, row.file) == ("s", str(written.label))
    assert row.reason.endswith("damaged: empty, or cut short before its DICOM prefix")


def test_label_of_an_unknown_kind_is_not_no_label(tmp_path: Path) -> None:
    written = tiny.write_study(tmp_path / "s", "seg")
    assert written.label is not None
    surface = "1.2.840.10008.5.1.4.1.1.66.5"
    tiny.edit(written.label, SOPClassUID=surface)
    _, (row,) = find(tmp_path, "negative")
    assert row.reason.startswith(f"SOPClassUID (0008,0016) of its SEG is {surface}, expected Seg")
    assert row.file == str(written.label)
    # Beside a label that is read it is none of our business.
    contours = {"GTV": tiny.block_contours()}
    tiny.write_rtstruct(tmp_path / "s" / "rt", written.pet, contours)
    assert only(tmp_path).warnings == ()


def test_damaged_file_of_no_study_has_a_row_of_its_own(tmp_path: Path) -> None:
    tiny.write_study(tmp_path / "s", "rtstruct")
    lone = tmp_path / "slice.dcm"
    lone.touch()
    (study,), (row,) = find(tmp_path)
    assert study.study == "s"
    assert (row.study, row.file) == ("", str(lone))
    assert row.reason == "named as DICOM, but it does not begin as DICOM does"


def test_links_that_lead_nowhere(tmp_path: Path) -> None:
    tiny.write_study(tmp_path / "s", "rtstruct")
    (tmp_path / "s" / "itself").symlink_to(tmp_path / "s" / "itself")
    (tmp_path / "s" / "gone").symlink_to(tmp_path / "nothing")
    assert only(tmp_path).study == "s"
    for target in ("nothing", "s/slice.dcm"):  # a slice may be missing
        link = tmp_path / "s" / "slice.dcm"
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path / target)
        row = reason(tmp_path)
        assert (row.study, row.file) == ("s", str(link))
        assert row.reason.endswith("named as DICOM, but a link that leads nowhere")


def test_folder_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.write_study(tmp_path / "s", "rtstruct")
    tiny.write_study(tmp_path / "t", "rtstruct")
    (tmp_path / "s" / "locked").mkdir()
    scandir = os.scandir

    def refuse(folder: str) -> Any:  # as permissions do, but for root, who runs tests too
        if folder.endswith("locked"):
            raise PermissionError(folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    (study,), (row,) = find(tmp_path)
    assert (study.study, row.study, row.file) == ("t", "s", str(tmp_path / "s" / "locked"))
    assert row.reason.endswith("folder that cannot be read (PermissionError)")


def test_header_has_no_name_of_the_patient(tmp_path: Path) -> None:
    written = tiny.write_study(tmp_path / "s", None)
    header = read_header(written.pet[0])
    assert isinstance(header, Header)
    assert "Secret" not in repr(header)
    assert "19490321" not in repr(header)


def test_two_studies_in_one_folder(tmp_path: Path) -> None:
    for uid in ("1.2.11111111", "1.2.22222222"):
        for path in (*tiny.write_pet(tmp_path / uid, uid), *tiny.write_ct(tmp_path / uid, uid)):
            (tmp_path / "mixed").mkdir(exist_ok=True)
            path.rename(tmp_path / "mixed" / f"{uid}-{path.parent.name}-{path.name}")
    studies, excluded = find(tmp_path, "negative")
    assert excluded == []
    assert [study.study for study in studies] == ["mixed_11111111", "mixed_22222222"]
    assert [len(study.ct) for study in studies] == [12, 12]


def test_many_files_are_read_by_several_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.write_study(tmp_path / "s", "rtstruct")
    alone = read_tree(tmp_path, workers=1)
    monkeypatch.setattr("petct.file_tree.FEW_FILES", 5)
    assert read_tree(tmp_path, workers=2) == alone


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID"])
def test_file_without_identity_is_damaged(tmp_path: Path, keyword: str) -> None:
    (path, *_) = tiny.write_pet(tmp_path, "1.2.3")
    tiny.edit(path, **{keyword: None})
    found = read_header(path)
    if keyword == "SOPClassUID":  # pydicom writes it to the meta information as well
        assert isinstance(found, str | Header)
    else:
        assert isinstance(found, str) and keyword in found
