"""Which label of a study is used: the one of lesions, of the PET, else of the CT."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom

from petct.dicom_series import tag_name
from petct.errors import StudyError
from petct.file_tree import LABEL_KINDS, Header, values_within

LABEL_MODALITIES = ("SEG", "RTSTRUCT")


@dataclass(frozen=True)
class Label:
    """``refers_to``: pet, ct, or frame (only the frame of reference is shared)."""

    kind: str
    files: tuple[Path, ...]
    refers_to: str


def named_labels(headers: Sequence[Header], pattern: str) -> tuple[list[Header], list[Header]]:
    """The labels that have a name of lesions, and the others; all, if none has one.

    Raises StudyError if what calls itself a label is of a kind that is not read, and there is none.
    """
    labels = [header for header in headers if header.sop_class in LABEL_KINDS]
    unknown = [h for h in headers if h.modality in LABEL_MODALITIES and h not in labels]
    if unknown and not labels:
        raise StudyError(
            f"{tag_name('SOPClassUID')} of its {unknown[0].modality} is {unknown[0].sop_class}, "
            "expected Segmentation, Label Map Segmentation or RT Structure Set Storage",
            str(unknown[0].file),
        )
    named = [h for h in labels if any(re.search(pattern, name, re.I) for name in h.names)]
    return (named, [h for h in labels if h not in named]) if named else (labels, [])


def list_paths(paths: Iterable[Path]) -> str:
    return " and ".join(sorted(map(str, paths)))


def choose_label(
    labels: Sequence[Header],
    pet: Sequence[Header],
    ct: Sequence[Header],
    nifti_labels: Sequence[Path],
) -> tuple[Label | None, list[str]]:
    """The one label of a study: what refers to the PET, else to the CT, else to their frame."""
    by_reference: dict[str, list[Header]] = defaultdict(list)
    for header in labels:
        by_reference[_refers_to(header, pet, ct)].append(header)
    for refers_to in ("pet", "ct", "frame"):
        candidates = by_reference[refers_to]
        if not candidates:
            continue
        if len(candidates) > 1:
            listed = list_paths(header.file for header in candidates)
            raise StudyError(
                f"{len(candidates)} labels refer to the same series: {listed}; expected one",
                str(candidates[0].file),
            )
        notes = []
        if nifti_labels:
            notes.append(f"{nifti_labels[0].name} is not used: the study has a DICOM label")
        if refers_to == "frame":
            notes.append("the label names neither the PET nor the CT series as its own")
        elif elsewhere := [*by_reference["frame"], *by_reference["none"]]:
            listed = list_paths(header.file for header in elsewhere)
            notes.append(f"labels of other series are not used: {listed}")
        (chosen,) = candidates
        return Label(LABEL_KINDS[chosen.sop_class], (chosen.file,), refers_to), notes
    if len(nifti_labels) > 1:
        listed = list_paths(nifti_labels)
        raise StudyError(f"several NIfTI labels: {listed}; expected one", str(nifti_labels[0]))
    if nifti_labels:
        return Label("nifti", (nifti_labels[0],), "pet"), []
    if labels:
        raise StudyError(
            "its label refers neither to the PET or CT series nor to their frame of reference",
            str(labels[0].file),
        )
    return None, []


def _refers_to(label: Header, pet: Sequence[Header], ct: Sequence[Header]) -> str:
    to_pet = pet[0].series in label.referenced_series
    to_ct = bool(ct) and ct[0].series in label.referenced_series
    if to_pet != to_ct:
        return "pet" if to_pet else "ct"
    # Both or neither: what the single contours or frames were drawn on tells.
    instances = referenced_instances(label)
    if instances & {header.instance for header in pet}:
        return "pet"
    if instances & {header.instance for header in ct}:
        return "ct"
    if to_pet:
        return "pet"
    shared = label.frames_of_reference & pet[0].frames_of_reference
    return "frame" if shared else "none"


def referenced_instances(label: Header) -> set[str]:
    """SOP instances named by the contours or frames of a label, or anywhere in it."""
    try:
        dataset = pydicom.dcmread(label.file, stop_before_pixels=True, force=True)
        for keyword in ("ROIContourSequence", "PerFrameFunctionalGroupsSequence"):
            if found := values_within(dataset, "ReferencedSOPInstanceUID", keyword):
                return found
        return {str(e.value) for e in dataset.iterall() if e.keyword == "ReferencedSOPInstanceUID"}
    except Exception as error:  # a damaged file may fail anywhere in the parser
        reason = f"label is not readable ({type(error).__name__})"
        raise StudyError(reason, str(label.file)) from error
