"""Markers in every text of an input, and the search for them in all that a run writes.

A marker is a word that occurs nowhere else. Where one is found afterwards, text of the input has
got through; its number tells which.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pydicom
from PIL import Image
from pydicom import config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

TEXT_VRS = ("AE", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT")
BIRTH = "18470319"
MARKER = re.compile(rb"qz[0-9]{6}xk")  # in lower case
# Coded strings in a text's clothing: what a nuclide or a kind of tissue is known by.
CODES = ("CodeValue", "CodingSchemeDesignator", "CodingSchemeVersion")
# What scanners and archives write besides what is there.
USUAL = [
    *["PatientName", "OtherPatientIDs", "OtherPatientNames", "PatientBirthName", "PatientAddress"],
    *["PatientMotherBirthName", "MilitaryRank", "EthnicGroup", "Occupation", "PatientComments"],
    *["AdditionalPatientHistory", "InstitutionName", "InstitutionAddress", "StationName"],
    *["InstitutionalDepartmentName", "ReferringPhysicianName", "PerformingPhysicianName"],
    *["OperatorsName", "NameOfPhysiciansReadingStudy", "RequestingPhysician", "StudyDescription"],
    *["SeriesDescription", "ProtocolName", "AccessionNumber", "StudyID", "ImageComments"],
    *["RequestedProcedureDescription", "AdmittingDiagnosesDescription", "Manufacturer"],
    *["ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions", "Allergies"],
    *["IssuerOfPatientID", "RetrieveAETitle", "RetrieveURL", "PatientTelephoneNumbers"],
    *["LongCodeValue", "DerivationDescription", "AcquisitionComments", "StudyComments"],
    *["InterpretationText", "ContentCreatorName", "ContentDescription", "StructureSetName"],
    *["StructureSetDescription", "PerformedStationAETitle"],
]


class Markers:
    """Gives out markers and remembers what each stands for."""

    def __init__(self) -> None:
        self.meaning: dict[str, str] = {}

    def new(self, meaning: str) -> str:
        marker = f"QZ{len(self.meaning):06d}XK"
        self.meaning[marker] = meaning
        return marker

    def plant(self, file: Path, patient: str, lesion: str) -> None:
        """Put a marker into every text of a DICOM file, at every depth, and into its preamble.

        ``patient`` becomes the PatientID. ``lesion`` follows the marker in the names of segments
        and regions, so that they are found by it. Creators of private blocks and codes stay.
        """
        dataset = pydicom.dcmread(file)
        where = str(file)
        for keyword in USUAL:
            tag = tag_for_keyword(keyword)
            assert tag is not None, keyword
            if keyword not in dataset:
                dataset.add_new(tag, dictionary_VR(tag), "")
        private = dataset.private_block(0x0099, self.new(f"{where} private creator"), create=True)
        inner = Dataset()
        inner.PatientComments = ""
        for element, vr in enumerate(TEXT_VRS):
            private.add_new(element, vr, "")
        private.add_new(0x30, "SQ", [inner])
        private.add_new(0x31, "UN", self.new(f"{where} private bytes").encode())
        self._replace(dataset, where, lesion)
        self._replace(dataset.file_meta, f"{where} meta information", lesion)
        dataset.preamble = self.new(f"{where} preamble").encode().ljust(128, b"\0")
        dataset.PatientID = patient
        dataset.PatientBirthDate = BIRTH
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
            self.meaning[str(dataset[keyword].value)] = f"{where} {keyword}"
        before = config.settings.writing_validation_mode
        config.settings.writing_validation_mode = config.IGNORE
        try:
            dataset.save_as(file, enforce_file_format=True)
        finally:
            config.settings.writing_validation_mode = before

    def _replace(self, dataset: Dataset, where: str, lesion: str) -> None:
        for element in list(dataset):
            if element.VR == "SQ":
                for item in element.value:
                    self._replace(item, f"{where} {element.keyword}", lesion)
            elif element.VR in TEXT_VRS and not element.tag.is_private_creator:
                if element.keyword in CODES:
                    continue
                marker = self.new(f"{where} {element.keyword or element.tag}")
                if element.keyword in ("SegmentLabel", "ROIName"):
                    marker = f"{marker} {lesion}"
                element.value = f"{marker}^{marker}" if element.VR == "PN" else marker
                if not element.keyword:
                    dataset[element.tag] = DataElement(element.tag, element.VR, marker)


def find_markers(folder: Path, also: Iterable[str] = ()) -> dict[str, set[str]]:
    """The markers below ``folder``, each with where it is: in names, bytes and what is packed.

    ``also``: other words to look for, such as UIDs.
    """
    others = [word.lower().encode() for word in (BIRTH, *also)]
    found: dict[str, set[str]] = {}
    for path in folder.rglob("*"):
        for text in (*_names(path.relative_to(folder)), *_contents(path)):
            lower = text.lower()  # plain words in one case are found ten times as fast
            here = [*MARKER.findall(lower), *(word for word in others if word in lower)]
            for word in here:
                found.setdefault(word.decode().upper(), set()).add(str(path))
    return found


def _names(path: Path) -> Iterator[bytes]:
    """A name as it is, and as what it may encode."""
    yield str(path).encode()
    for part in path.parts:
        try:
            yield base64.b64decode(part.encode(), validate=True)
        except (binascii.Error, ValueError):
            continue


def _contents(path: Path) -> Iterator[bytes]:
    if path.is_symlink() or not path.is_file():
        return
    content = path.read_bytes()
    yield content
    if content[:2] == b"\x1f\x8b":
        yield gzip.decompress(content)
    if content[:2] == b"\x78\x9c":
        yield zlib.decompress(content)
    if path.suffix == ".png":
        with Image.open(path) as picture:
            yield repr(picture.info).encode()
