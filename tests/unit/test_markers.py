"""No text of the input gets into the index, the manifests, the images or the messages."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest

import dicom_studies as tiny
from convert_study import convert_study
from index_studies import index_studies
from markers import MARKER, Markers, find_markers

DRUG = "RadiopharmaceuticalInformationSequence"


def as_text(keyword: str, within: str = "") -> Callable[[tiny.TinyStudy, str], None]:
    """Write text where a number, a date or a time belongs."""

    def fault(study: tiny.TinyStudy, marker: str) -> None:
        def change(dataset: pydicom.Dataset) -> None:
            item = dataset[within][0] if within else dataset
            tag = pydicom.datadict.tag_for_keyword(keyword)
            assert tag is not None
            item[tag] = pydicom.DataElement(tag, "LO", marker)

        tiny.edit(study.pet, change)

    return fault


def no_weight(study: tiny.TinyStudy, marker: str) -> None:
    tiny.edit(study.pet, PatientWeight=None)


def truncated(study: tiny.TinyStudy, marker: str) -> None:
    study.pet[2].write_bytes(study.pet[2].read_bytes()[:-20])


def cut_in_header(study: tiny.TinyStudy, marker: str) -> None:
    study.ct[2].write_bytes(study.ct[2].read_bytes()[:700])


def cut_in_sequence(study: tiny.TinyStudy, marker: str) -> None:
    """The reader's own warning about it names the file."""

    def change(dataset: pydicom.Dataset) -> None:
        dataset[DRUG].is_undefined_length = True
        for element in list(dataset.group_dataset(0x0020)) + list(dataset.group_dataset(0x0028)):
            del dataset[element.tag]

    for path in study.pet:
        tiny.edit(path, change)
        content = path.read_bytes()
        path.write_bytes(content[: content.rindex(b"C-111A1")])


def endless_pixels(study: tiny.TinyStudy, marker: str) -> None:
    for path in (*study.pet, *study.ct):
        content = path.read_bytes()
        at = content.rindex(b"\xe0\x7f\x10\0OW") + 8
        path.write_bytes(content[:at] + b"\xff\xff\xff\xff" + content[at + 4 :])


def broken_contour(study: tiny.TinyStudy, marker: str) -> None:
    assert study.label
    tiny.edit(
        study.label,
        lambda d: setattr(d.ROIContourSequence[0].ContourSequence[0], "ContourData", [1.0, 2.0]),
    )


def unknown_contour(study: tiny.TinyStudy, marker: str) -> None:
    def change(dataset: pydicom.Dataset) -> None:
        item = dataset.ROIContourSequence[0].ContourSequence[0]
        item.ContourGeometricType = "CIRCLE"

    assert study.label
    tiny.edit(study.label, change)


def no_lesion(study: tiny.TinyStudy, marker: str) -> None:
    def change(dataset: pydicom.Dataset) -> None:
        dataset.StructureSetROISequence[0].ROIName = f"{marker} liver"

    assert study.label
    tiny.edit(study.label, change)


def open_contour(study: tiny.TinyStudy, marker: str) -> None:
    def change(dataset: pydicom.Dataset) -> None:
        dataset.ROIContourSequence[0].ContourSequence[0].ContourGeometricType = "POINT"

    assert study.label
    tiny.edit(study.label, change)


def two_labels(study: tiny.TinyStudy, marker: str) -> None:
    assert study.label
    copy = study.label.with_name("second")
    copy.write_bytes(study.label.read_bytes())
    tiny.edit(copy, SOPInstanceUID=pydicom.uid.generate_uid(entropy_srcs=["second"]))


def other_patient(study: tiny.TinyStudy, marker: str) -> None:
    tiny.edit(study.ct, PatientID=marker)


def missing_slice(study: tiny.TinyStudy, marker: str) -> None:
    study.pet[2].unlink()


def no_pet(study: tiny.TinyStudy, marker: str) -> None:
    tiny.edit(study.pet, SOPClassUID=pydicom.uid.SecondaryCaptureImageStorage)


def unreadable_seg(study: tiny.TinyStudy, marker: str) -> None:
    assert study.label
    study.label.unlink()
    tiny.write_seg(study.label, study.pet, {f"{marker} lesion": tiny.lesion_mask()})
    tiny.edit(study.label, PixelData=b"\0\0")


def seg_of_another_name(study: tiny.TinyStudy, marker: str) -> None:
    assert study.label
    study.label.unlink()
    tiny.write_seg(study.label, study.pet, {f"{marker} liver": tiny.lesion_mask()})


def nothing(study: tiny.TinyStudy, marker: str) -> None:
    pass


FAULTS: dict[str, Callable[[tiny.TinyStudy, str], None]] = {
    fault.__name__: fault
    for fault in (
        *[nothing, no_weight, truncated, cut_in_header, cut_in_sequence, endless_pixels],
        *[broken_contour, unknown_contour],
        *[no_lesion, open_contour, two_labels, other_patient, missing_slice, no_pet],
        *[unreadable_seg, seg_of_another_name],
    )
} | {
    keyword: as_text(keyword)
    for keyword in (
        *["PatientWeight", "SeriesTime", "SeriesDate", "RescaleSlope", "PixelSpacing", "Rows"],
        *["ImagePositionPatient", "InstanceNumber", "NumberOfSlices", "BitsAllocated"],
        *["SeriesNumber", "AcquisitionTime", "AcquisitionDate", "PatientSex", "PatientSize"],
        *["SeriesType", "CorrectedImage", "ImageType", "TimezoneOffsetFromUTC", "SliceThickness"],
        *["FrameReferenceTime", "ActualFrameDuration", "LossyImageCompression"],
    )
}
FAULTS |= {
    keyword: as_text(keyword, DRUG)
    for keyword in (
        *["RadionuclideTotalDose", "RadionuclideHalfLife", "RadiopharmaceuticalStartTime"],
        *["RadiopharmaceuticalStartDateTime"],
    )
}


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], str, str]:
    """A tiny study with a marker in every text, by relative path, its PatientID, and one more."""
    folder = tmp_path_factory.mktemp("marked")
    markers = Markers()
    patient, more = markers.new("PatientID"), markers.new("the fault's own")
    study = tiny.write_study(folder, "rtstruct", patient)
    for file in (*study.pet, *study.ct, study.label):
        assert file is not None
        markers.plant(file, patient, "gtv")
    assert len(markers.meaning) > 19 * 60
    contents = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    assert all(len(set(MARKER.findall(content.lower()))) > 50 for content in contents.values())
    return contents, patient, more


@pytest.mark.parametrize("keys", ["original", "hashed"])
@pytest.mark.parametrize("fault", FAULTS)
def test_no_text_of_the_input_is_written_or_said(
    tmp_path: Path,
    marked: tuple[dict[str, bytes], str, str],
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    fault: str,
    keys: str,
) -> None:
    contents, patient, more = marked
    name = "study" if keys == "original" else patient  # folders are often named by the patient
    folder = tmp_path / "in" / name
    for path, content in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    pet = [folder / "a" / f"{(z * 5 + 3) % 7}" for z in range(6)]
    ct = [folder / "b" / f"{(z * 5 + 3) % 13}" for z in range(12)]
    FAULTS[fault](tiny.TinyStudy(folder, pet, ct, folder / "c" / "7"), more)
    (tmp_path / "salt").write_text("QZ999999XK")
    settings = tiny.READING | {"keys": keys}
    settings["salt_file"] = str(tmp_path / "salt") if keys == "hashed" else None

    work = tmp_path / "work"
    with warnings.catch_warnings(record=True) as warned:
        warnings.filterwarnings("always")
        warnings.filterwarnings("ignore", module=r"pydicom\.")  # as dicom_series does
        index_studies(tmp_path / "in", settings, work / "index")
        for entry in (work / "index/studies").iterdir():
            convert_study(entry, settings, work / "studies" / entry.stem / "study.json")
            if keys == "hashed":  # the one place that leads back to the files
                told = json.loads(entry.read_text())
                told["folder"] = ""
                for role in ("pet", "ct", "label"):
                    told[role]["files"] = []
                entry.write_text(json.dumps(told))
    said = capfd.readouterr()
    told_besides = "".join(str(warning.message) for warning in warned) + caplog.text
    (work / "log").write_text(said.out + said.err + told_besides)
    found = find_markers(work)
    if keys == "original":
        found.pop(patient, None)
    assert not found
    rows = (work / "index/excluded.tsv").read_text().splitlines()[1:]
    assert len(rows) + len(list((work / "index/studies").iterdir())) >= 1
