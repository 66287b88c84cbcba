"""A tiny study as bytes, to be broken and then written, and the truth about its voxels."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom
from pydicom import uid
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.tag import Tag

import dicom_studies as tiny

CONVERTS, EXCLUDED, EITHER = "converts", "excluded", "either"
DRUG = "RadiopharmaceuticalInformationSequence"
# Seconds from the injection to each slice's acquisition, and what the dose has become by then.
ELAPSED_S = (
    np.array([(15 + z // 2) * 60 + 1.0 for z in range(6)]) + (10 - 8) * 3600 - 25 * 60 - 14.3
)
STUDY_UID, PATIENT = "1.2.826.0.1.3680043.8.498.10000000000001", "PATIENT-0000"


@dataclass(frozen=True)
class Verdict:
    """``reason``: what the reason of an exclusion matches, if there is one, or its file's name."""

    kind: str
    outcome: str
    reason: str = ""
    detail: str = ""


@dataclass
class Draft:
    """A study on its way into a folder: contents and links by relative path, and the truth.

    ``pet`` and ``ct`` name the slices in order along the patient. ``suv``, ``hounsfield`` (on the
    PET grid) and ``lesions`` are (Z, Y, X); ``unknown`` names those that a mutation leaves open.
    """

    files: dict[str, bytes]
    pet: list[str]
    ct: list[str]
    label: str | None
    label_kind: str
    suv: np.ndarray
    hounsfield: np.ndarray
    lesions: np.ndarray
    unknown: set[str] = field(default_factory=set)
    links: dict[str, str] = field(default_factory=dict)
    pipes: list[str] = field(default_factory=list)

    def series(self, name: str) -> list[str]:
        return self.pet if name == "PET" else self.ct

    def rename(self, old: str, new: str) -> None:
        self.files[new] = self.files.pop(old)
        for names in (self.pet, self.ct):
            if old in names:
                names[names.index(old)] = new
        if self.label == old:
            self.label = new

    def write(self, folder: Path) -> None:
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        for name, target in self.links.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).symlink_to(target)
        for name in self.pipes:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.mkfifo(folder / name)


def read_templates(folder: Path) -> dict[str, Draft]:
    """One study per kind of label (seg, rtstruct, none), written to ``folder`` and read back."""
    templates = {}
    centres = tiny.voxel_centres(tiny.PET_SHAPE, tiny.PET_SPACING, tiny.PET_ORIGIN, tiny.AXIAL)
    for kind in ("seg", "rtstruct", "none"):
        root = folder / kind
        label = None if kind == "none" else kind
        study = tiny.write_study(root, label, PATIENT, study_uid=STUDY_UID)
        names = {path: str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
        templates[kind] = Draft(
            files={name: path.read_bytes() for path, name in names.items()},
            pet=[names[path] for path in study.pet],
            ct=[names[path] for path in study.ct],
            label=names[study.label] if study.label else None,
            label_kind=kind,
            suv=tiny.SUV.copy(),
            hounsfield=tiny.hounsfield_at(centres),
            lesions=tiny.lesion_mask() if label else np.zeros(tiny.PET_SHAPE, np.uint8),
        )
    return templates


def copy_study(template: Draft, number: int, bare: bool) -> Draft:
    """The same study of another patient; ``bare``: without preamble, DICM and meta information."""
    new_uid = STUDY_UID[:-6] + f"{number:06d}"
    files = {}
    for name, content in template.files.items():
        changed = content.replace(STUDY_UID.encode(), new_uid.encode())
        changed = changed.replace(PATIENT.encode(), f"{PATIENT[:-4]}{number:04d}".encode())
        files[name] = strip_meta(changed) if bare else changed
    return Draft(
        files=files,
        pet=list(template.pet),
        ct=list(template.ct),
        label=template.label,
        label_kind=template.label_kind,
        suv=template.suv.copy(),
        hounsfield=template.hounsfield.copy(),
        lesions=template.lesions.copy(),
    )


def strip_meta(content: bytes) -> bytes:
    (length,) = struct.unpack("<I", content[140:144])
    return content[144 + length :]


def parse(content: bytes) -> Dataset:
    return pydicom.dcmread(io.BytesIO(content), force=True)


def serialise(dataset: Dataset, bare: bool) -> bytes:
    buffer = io.BytesIO()
    if bare:
        dataset.preamble = None
        pydicom.dcmwrite(buffer, dataset, implicit_vr=False, little_endian=True)
    else:
        pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def edit(draft: Draft, names: Sequence[str], change: Callable[[Dataset], None]) -> None:
    for name in names:
        dataset = parse(draft.files[name])
        bare = draft.files[name][128:132] != b"DICM"
        change(dataset)
        draft.files[name] = serialise(dataset, bare)


def put_raw(dataset: Dataset, keyword: str, value: bytes, vr: str = "") -> None:
    """Set a tag to raw bytes, whatever they are."""
    tag = Tag(tag_for_keyword(keyword) or 0)
    vr = vr or dictionary_VR(tag)
    value += (b"\0" if vr in ("UI", "OB", "US") else b" ") * (len(value) % 2)
    if vr == "SQ":
        item = Dataset()
        item.InstanceNumber = 1
        dataset[tag] = DataElement(tag, "SQ", Items([item]))
        return
    dataset[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)


def get_raw(dataset: Dataset, keyword: str) -> bytes:
    """A tag's bytes as they lie in the file."""
    element = dataset.get_item(keyword)
    if element is None:
        return b""
    value = element.value
    if isinstance(element, RawDataElement):
        return value or b""
    values = value if isinstance(value, (list, pydicom.multival.MultiValue)) else [value]
    if element.VR == "US":
        return b"".join(struct.pack("<H", v) for v in values)
    return "\\".join(str(v) for v in values).encode()


def item_of(dataset: Dataset, within: str) -> Dataset:
    return dataset[within][0] if within else dataset


def broken(draft: Draft, name: str) -> bool:
    """Whether an earlier mutation left a file without what a copy needs."""
    content = draft.files.get(name, b"")
    dataset = parse(content)
    needed = ("StudyInstanceUID", "Modality", "SOPClassUID", "PixelData", "ImagePositionPatient")
    if any(keyword not in dataset for keyword in (*needed, "PatientID")):
        return True
    bare = content[128:132] != b"DICM"
    try:
        serialise(dataset, bare)
    except Exception:  # the writer refuses some of what has been put into it
        return True
    return not bare and dataset.file_meta.get("TransferSyntaxUID") != uid.ExplicitVRLittleEndian
