"""Which files of a tree form which study, and what does not become one.

DICOM studies are found by header, NIfTI studies by the names of the AutoPET release. Nothing is
dropped without a row that says why.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pydicom
from pydicom import uid

from petct.dicom_series import tag_name
from petct.errors import StudyError
from petct.file_tree import (
    LABEL_KINDS,
    NIFTI_CTS,
    NIFTI_LABEL,
    NIFTI_PET,
    Header,
    Tree,
    values_within,
)

SERIES_CLASSES = {
    "PT": {uid.PositronEmissionTomographyImageStorage, uid.EnhancedPETImageStorage},
    "CT": {uid.CTImageStorage, uid.EnhancedCTImageStorage},
}


@dataclass(frozen=True)
class Label:
    """``refers_to``: pet, ct, or frame (only the frame of reference is shared)."""

    kind: str
    files: tuple[Path, ...]
    refers_to: str


@dataclass(frozen=True)
class Study:
    """One PET/CT examination: its files by role. ``pet_series`` is empty for NIfTI."""

    study: str
    patient: str
    format: str
    folder: Path
    pet_series: str
    pet: tuple[Path, ...]
    ct_series: str
    ct: tuple[Path, ...]
    label: Label | None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Excluded:
    """What did not become a study: a row of excluded.tsv."""

    study: str
    patient: str
    reason: str
    file: str


def find_studies(
    tree: Tree, root: Path, missing_label: str, label_pattern: str
) -> tuple[list[Study], list[Excluded]]:
    """The studies of a tree below ``root``, by key, and everything that is not one.

    ``missing_label``: what a study without any label is: "exclude" or "negative".
    ``label_pattern``: tells lesions from other segments where several labels compete.
    """
    dicom: dict[str, list[Header]] = defaultdict(list)  # by StudyInstanceUID
    for header in tree.headers:
        dicom[header.study].append(header)
    folders = {
        uid_: Path(os.path.commonpath([header.file.parent for header in headers]))
        for uid_, headers in dicom.items()
    }
    beside, nifti, orphans = _sort_nifti(tree.nifti, _owners(dicom, folders), root)
    damaged, lost = _sort_damaged(tree.damaged, dicom, folders)
    excluded = [*orphans, *lost]
    studies = []
    keys = study_keys({**folders, **{str(folder): folder for folder in nifti}}, root)
    for identifier, key in keys.items():
        if identifier in dicom:
            folder = folders[identifier]
            patient = next((h.patient for h in dicom[identifier] if h.patient), "")
        else:
            folder = Path(identifier)
            patient = folder.name if root in (folder, folder.parent) else folder.parent.name
        try:
            for path, reason in damaged[identifier]:
                raise StudyError(f"a file beside its slices is damaged: {reason}", str(path))
            if identifier in dicom:
                study = _dicom_study(
                    key, folder, dicom[identifier], beside[identifier], label_pattern
                )
            else:
                study = _nifti_study(key, patient, folder, nifti[folder])
            if study.label is None and missing_label == "exclude":
                raise StudyError(f"no label (SEG, RTSTRUCT or {NIFTI_LABEL})", str(folder))
            studies.append(study)
        except StudyError as error:
            excluded.append(Excluded(key, patient, str(error), error.source or str(folder)))
    by_key = sorted(studies, key=lambda study: study.study)
    return by_key, sorted(excluded, key=lambda row: (row.study, row.file))


NiftiFiles = Mapping[str, Path]  # by name


def _sort_nifti(
    found: Mapping[Path, NiftiFiles], owners: Mapping[Path, str], root: Path
) -> tuple[dict[str, list[NiftiFiles]], dict[Path, NiftiFiles], list[Excluded]]:
    """NIfTI files that lie with a DICOM study, by study; NIfTI studies, by folder; the rest."""
    beside: dict[str, list[NiftiFiles]] = defaultdict(list)
    studies = {}
    orphans = []
    for folder, files in sorted(found.items()):
        owner = _owner_of(folder, owners, root, NIFTI_PET in files)
        if owner:
            beside[owner].append(files)
        elif NIFTI_PET in files:
            studies[folder] = files
        else:
            reason = f"{', '.join(sorted(files))} without {NIFTI_PET} or a DICOM study to belong to"
            orphans.append(Excluded("", "", reason, str(folder)))
    return beside, studies, orphans


def _sort_damaged(
    found: Sequence[tuple[Path, str]],
    dicom: Mapping[str, Sequence[Header]],
    folders: Mapping[str, Path],
) -> tuple[dict[str, list[tuple[Path, str]]], list[Excluded]]:
    """Damaged files by the one study in whose folder they lie, and those of no single study."""
    inhabitants: dict[Path, set[str]] = defaultdict(set)
    for study, headers in dicom.items():
        for folder in (folders[study], *(header.file.parent for header in headers)):
            inhabitants[folder].add(study)
    damaged: dict[str, list[tuple[Path, str]]] = defaultdict(list)
    lost = []
    for path, reason in found:
        inside = next((inhabitants[above] for above in path.parents if above in inhabitants), set())
        if len(inside) == 1:
            damaged[next(iter(inside))].append((path, reason))
        else:
            lost.append(Excluded("", "", reason, str(path)))
    return damaged, lost


def study_keys(folders: Mapping[str, Path], root: Path) -> dict[str, str]:
    """A file-name-safe, unique key per study, from the folder that holds all its files.

    ``folders``: by StudyInstanceUID, or by path for NIfTI. The components below ``root``, joined
    by "_"; the UID's last 8 characters follow if studies share the folder or it is ``root``.
    """
    shared = Counter(folders.values())
    keys = {}
    for identifier, folder in folders.items():
        parts = [*folder.relative_to(root).parts]
        if not parts or shared[folder] > 1:
            parts.append(identifier[-8:].lstrip("./"))
        keys[identifier] = re.sub(r"[^A-Za-z0-9._-]", "-", "_".join(parts))
    taken = Counter(keys.values())
    for identifier, key in keys.items():
        if taken[key] > 1 or len(key) > 150:
            keys[identifier] = f"{key[:140]}_{sha256(identifier.encode()).hexdigest()[:8]}"
    return keys


def _owners(dicom: Mapping[str, Sequence[Header]], folders: Mapping[str, Path]) -> dict[Path, str]:
    """Folders that belong to one DICOM study with a PET series."""
    with_pet = [s for s, headers in dicom.items() if any(h.modality == "PT" for h in headers)]
    shared = Counter(folders[study] for study in with_pet)
    return {folders[study]: study for study in with_pet if shared[folders[study]] == 1}


def _owner_of(folder: Path, owners: Mapping[Path, str], root: Path, is_study: bool) -> str | None:
    """The DICOM study that NIfTI files in ``folder`` belong to: that of the nearest folder above.

    A whole NIfTI study does not belong to a DICOM study that merely fills ``root``.
    """
    for above in (folder, *folder.parents):
        if above == root and is_study and folder != root:
            return None
        if above in owners:
            return owners[above]
        if above == root:
            return None
    return None


def _nifti_study(key: str, patient: str, folder: Path, files: NiftiFiles) -> Study:
    ct = next((files[name] for name in NIFTI_CTS if name in files), None)
    if ct is None:
        raise StudyError(f"no CT: expected {' or '.join(NIFTI_CTS)}", str(folder))
    label = files.get(NIFTI_LABEL)
    return Study(
        study=key,
        patient=patient,
        format="nifti",
        folder=folder,
        pet_series="",
        pet=(files[NIFTI_PET],),
        ct_series="",
        ct=(ct,),
        label=Label("nifti", (label,), "pet") if label else None,
    )


def _dicom_study(
    key: str, folder: Path, headers: Sequence[Header], beside: Sequence[NiftiFiles], pattern: str
) -> Study:
    pet = _one_series(headers, "PT")
    ct = _one_series(headers, "CT")
    patients = {header.patient for header in (*pet, *ct)}
    if None in patients:
        nameless = next(header.file for header in (*pet, *ct) if header.patient is None)
        raise StudyError(f"{tag_name('PatientID')} is missing", str(nameless))
    if len(patients) > 1:
        raise StudyError(f"its series carry {len(patients)} different {tag_name('PatientID')}")
    warnings = []
    if pet[0].frames_of_reference != ct[0].frames_of_reference:
        warnings.append(f"PET and CT differ in {tag_name('FrameOfReferenceUID')}")
    if any(NIFTI_PET in files for files in beside):
        warnings.append("NIfTI images in its folder are not used: it is read from DICOM")
    nifti_labels = [files[NIFTI_LABEL] for files in beside if NIFTI_LABEL in files]
    label, notes = _label(headers, pet, ct, nifti_labels, pattern)
    return Study(
        study=key,
        patient=pet[0].patient or "",
        format="dicom",
        folder=folder,
        pet_series=pet[0].series,
        pet=tuple(sorted(header.file for header in pet)),
        ct_series=ct[0].series,
        ct=tuple(sorted(header.file for header in ct)),
        label=label,
        warnings=(*warnings, *notes),
    )


def _one_series(headers: Sequence[Header], modality: str) -> list[Header]:
    candidates: dict[str, list[Header]] = defaultdict(list)
    for header in headers:
        images = header.modality == modality and header.sop_class in SERIES_CLASSES[modality]
        if images and not header.localizer:
            candidates[header.series].append(header)
    if not candidates:
        counted = Counter(header.modality for header in headers)
        found = ", ".join(f"{name} {count} file(s)" for name, count in sorted(counted.items()))
        raise StudyError(f"no {modality} series (found: {found})", "")
    if len(candidates) > 1:
        listed = " and ".join(f"{uid_} ({len(c)} files)" for uid_, c in sorted(candidates.items()))
        raise StudyError(f"{len(candidates)} candidate {modality} series: {listed}; expected one")
    return next(iter(candidates.values()))


def _label(
    headers: Sequence[Header],
    pet: Sequence[Header],
    ct: Sequence[Header],
    nifti_labels: Sequence[Path],
    pattern: str,
) -> tuple[Label | None, list[str]]:
    """The one label of a study: what refers to the PET, else to the CT, else to their frame."""
    found = [header for header in headers if header.sop_class in LABEL_KINDS]
    by_reference: dict[str, list[Header]] = defaultdict(list)
    for header in found:
        by_reference[_refers_to(header, pet, ct)].append(header)
    for refers_to in ("pet", "ct", "frame"):
        candidates = by_reference[refers_to]
        notes = []
        if len(candidates) > 1:
            lesions = [h for h in candidates if any(re.search(pattern, n, re.I) for n in h.names)]
            listed = " and ".join(str(h.file) for h in candidates)
            if len(lesions) != 1:
                raise StudyError(
                    f"{len(candidates)} labels refer to the same series: {listed}; expected one",
                    str(candidates[0].file),
                )
            notes.append(f"of the labels {listed} only one has names that match {pattern!r}")
            candidates = lesions
        if candidates:
            if nifti_labels:
                notes.append(f"{nifti_labels[0].name} is not used: the study has a DICOM label")
            if refers_to == "frame":
                notes.append("the label names neither the PET nor the CT series as its own")
            chosen = candidates[0]
            return Label(LABEL_KINDS[chosen.sop_class], (chosen.file,), refers_to), notes
    if len(nifti_labels) > 1:
        listed = " and ".join(str(path) for path in nifti_labels)
        raise StudyError(f"several NIfTI labels: {listed}; expected one", str(nifti_labels[0]))
    if nifti_labels:
        return Label("nifti", (nifti_labels[0],), "pet"), []
    if found:
        raise StudyError(
            "its label refers neither to the PET or CT series nor to their frame of reference",
            str(found[0].file),
        )
    return None, []


def _refers_to(label: Header, pet: Sequence[Header], ct: Sequence[Header]) -> str:
    to_pet = pet[0].series in label.referenced_series
    to_ct = ct[0].series in label.referenced_series
    if to_pet != to_ct:
        return "pet" if to_pet else "ct"
    # Both or neither: what the single contours or frames were drawn on tells.
    instances = _referenced_instances(label.file)
    if instances & {header.instance for header in pet}:
        return "pet"
    if instances & {header.instance for header in ct}:
        return "ct"
    if to_pet:
        return "pet"
    shared = label.frames_of_reference & pet[0].frames_of_reference
    return "frame" if shared else "none"


def _referenced_instances(file: Path) -> set[str]:
    """SOP instances named by the contours or frames of a label, or anywhere in it."""
    try:
        dataset = pydicom.dcmread(file, stop_before_pixels=True, force=True)
        for keyword in ("ROIContourSequence", "PerFrameFunctionalGroupsSequence"):
            if found := values_within(dataset, "ReferencedSOPInstanceUID", keyword):
                return found
        return {str(e.value) for e in dataset.iterall() if e.keyword == "ReferencedSOPInstanceUID"}
    except Exception as error:  # a damaged file may fail anywhere in the parser
        raise StudyError(f"label is not readable ({type(error).__name__})", str(file)) from error


def fingerprint(study: Study, root: Path) -> str:
    """SHA-256 over relative path, size and modification time of every file of a study."""
    sha = sha256()
    for path in (*study.pet, *study.ct, *(study.label.files if study.label else ())):
        status = path.stat()
        sha.update(f"{path.relative_to(root)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return sha.hexdigest()
