"""Which files of a tree form which study, and what does not become one.

DICOM studies are found by header, NIfTI studies by the names of the AutoPET release or of nnU-Net's
layout. Nothing is dropped without a row that says why.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from petct.dicom_series import tag_name
from petct.errors import StudyError
from petct.file_tree import (
    LABEL_KINDS,
    NIFTI_ACTIVITY,
    NIFTI_CTS,
    NIFTI_LABEL,
    NIFTI_PET,
    Header,
    Tree,
    read_tree,
)
from petct.label_choice import Label, choose_label, list_paths, named_labels, referenced_instances
from petct.nnunet_layout import Case, list_cases
from petct.series_choice import candidates_of, choose_ct, choose_pet, referred_series
from petct.study_keys import DICOM_UID, hashed_key, names_by_role, read_salt, without_paths

NO_CT = "its CT is -1024 HU everywhere"
ROLES_OF = {"PT": "pet", "CT": "ct"}


@dataclass(frozen=True)
class Study:
    """One PET/CT examination: its files by role.

    ``layout``: of NIfTI, "autopet" or "nnunet"; empty for DICOM. The series' UIDs are empty for
    NIfTI, ``ct`` where a study without CT is accepted. ``hashed``: all names but those of files
    and folder are salted hashes.
    """

    study: str
    patient: str
    format: str
    layout: str
    folder: Path
    pet_series: str
    pet: tuple[Path, ...]
    ct_series: str
    ct: tuple[Path, ...]
    label: Label | None
    warnings: tuple[str, ...]
    hashed: bool


@dataclass(frozen=True)
class Excluded:
    """What did not become a study: a row of excluded.tsv."""

    study: str
    patient: str
    reason: str
    file: str


@dataclass(frozen=True)
class Candidate:
    """What may be a study. ``files``: by role; ``read`` makes the study of a key, or raises."""

    folder: Path
    patient: str
    files: Mapping[str, Sequence[Path]]
    read: Callable[[str], Study]


def find_studies(
    tree: Tree, root: Path, settings: Mapping[str, Any]
) -> tuple[list[Study], list[Excluded]]:
    """The studies of a tree below ``root``, by key, and everything that is not one.

    ``settings``: ``label_pattern`` (tells lesions from other segments where several labels
    compete; None: labels are not read), ``missing_label`` ("exclude" or "negative": a study without
    any label), ``accept`` ("uncorrected", "missing_ct"), ``keys`` and ``salt_file``. With hashed
    keys, neither studies nor rows hold a key, a UID or a path of the input, but for the studies'
    files and folders.
    """
    salt = salt_of(settings)
    candidates, places, damaged, rows = _list_candidates(tree, root, settings)
    excluded = [row if salt is None else replace(row, file="-") for row in rows]
    studies = []
    for identifier, key in study_keys(places, root).items():
        found = candidates[identifier]
        key = key if salt is None else hashed_key(salt, "study", key)
        try:
            for path, reason in damaged[identifier]:
                raise StudyError(f"a file beside its slices is damaged: {reason}", str(path))
            study = found.read(key)
            if settings["label_pattern"] is None:
                study = replace(study, label=None)
            elif study.label is None and settings["missing_label"] == "exclude":
                raise StudyError(f"no label (SEG, RTSTRUCT or {NIFTI_LABEL})", str(study.folder))
            studies.append(study if salt is None else _hidden_study(study, found, salt))
        except StudyError as error:
            row = Excluded(key, found.patient, str(error), error.source or str(found.folder))
            others = [path for path, _ in damaged[identifier]]
            excluded.append(row if salt is None else _hidden_row(row, found, others, salt))
    by_key = sorted(studies, key=lambda study: study.study)
    return by_key, sorted(excluded, key=lambda row: (row.study, row.file))


def find_one(folder: Path, settings: Mapping[str, Any]) -> Study:
    """The one study that ``folder`` holds; ``settings`` as for ``find_studies``.

    Raises StudyError if anything in it does not become a study, or if there is not one.
    """
    studies, excluded = find_studies(read_tree(folder, workers=1), folder, settings)
    if excluded:
        raise StudyError(excluded[0].reason, excluded[0].file)
    if len(studies) != 1:
        raise StudyError(f"the folder holds {len(studies)} studies, expected one", str(folder))
    return studies[0]


def salt_of(settings: Mapping[str, Any]) -> bytes | None:
    """The salt if ``keys`` is "hashed", None if "original"; PetctError without a usable file."""
    if settings["keys"] == "original":
        return None
    file = settings["salt_file"]
    return read_salt(Path(file) if file else None)


def _hidden_study(study: Study, found: Candidate, salt: bytes) -> Study:
    used = {"pet": study.pet, "ct": study.ct, "label": study.label.files if study.label else ()}
    files = {path for listed in found.files.values() for path in listed}
    others = files.difference(*used.values())
    names = names_by_role(study.study, {**used, "other": others})
    hide = partial(_hidden_text, study.study, study.folder, names, salt)
    return replace(
        study,
        patient=hashed_key(salt, "patient", study.patient),
        pet_series=hashed_key(salt, "series", study.pet_series) if study.pet_series else "",
        ct_series=hashed_key(salt, "series", study.ct_series) if study.ct_series else "",
        warnings=tuple(hide(warning) for warning in study.warnings),
        hashed=True,
    )


def _hidden_row(row: Excluded, found: Candidate, damaged: Sequence[Path], salt: bytes) -> Excluded:
    others = [*found.files.get("other", ()), *damaged]
    names = names_by_role(row.study, {**found.files, "other": others})
    return Excluded(
        study=row.study,
        patient=hashed_key(salt, "patient", row.patient) if row.patient else "",
        reason=_hidden_text(row.study, found.folder, names, salt, row.reason),
        file=names.get(row.file, row.study),
    )


def _hidden_text(
    key: str, folder: Path, names: Mapping[str, str], salt: bytes, message: str
) -> str:
    shown = without_paths(message, key, str(folder), names)
    return DICOM_UID.sub(lambda uid: hashed_key(salt, "series", uid[0]), shown)


Damaged = Mapping[str, Sequence[tuple[Path, str]]]  # files and reasons, by candidate


def _list_candidates(
    tree: Tree, root: Path, settings: Mapping[str, Any]
) -> tuple[dict[str, Candidate], dict[str, Path], Damaged, list[Excluded]]:
    """What may be a study, by identifier (StudyInstanceUID or path), and the folders that name it.

    Then the damaged files of each, and rows for what belongs to none.
    """
    dicom: dict[str, list[Header]] = defaultdict(list)  # by StudyInstanceUID
    for header in tree.headers:
        dicom[header.study].append(header)
    places = {
        uid: Path(os.path.commonpath([header.file.parent for header in headers]))
        for uid, headers in dicom.items()
    }
    beside, nifti, orphans = _sort_nifti(tree.nifti, _owners(dicom, places), root)
    damaged, lost = _sort_damaged(tree.damaged, dicom, places)
    candidates = {}
    for uid, headers in dicom.items():
        patient = next((header.patient for header in headers if header.patient), "")
        read = partial(_dicom_study, places[uid], headers, beside[uid], settings)
        candidates[uid] = Candidate(places[uid], patient, _roles(headers, beside[uid]), read)
    for folder, files in nifti.items():
        patient = folder.name if root in (folder, folder.parent) else folder.parent.name
        read = partial(_nifti_study, folder, patient, files, settings["accept"])
        candidates[str(folder)] = Candidate(folder, patient, {"other": [*files.values()]}, read)
        places[str(folder)] = folder
    for case in list_cases(tree.nnunet):
        identifier = str(case.folder / case.case)
        read = partial(_nnunet_study, case, settings["accept"])
        candidates[identifier] = Candidate(case.folder, case.patient, case.files, read)
        places[identifier] = root / case.case
    unread = "a PET in BIDS, which has no place for a CT; expected DICOM, or NIfTI as AutoPET's"
    bids = [Excluded("", "", unread, str(path)) for path in tree.bids]
    return candidates, places, damaged, [*orphans, *lost, *bids]


def _roles(headers: Sequence[Header], beside: Sequence[NiftiFiles]) -> dict[str, list[Path]]:
    """A DICOM study's files by what they seem to be."""
    roles: dict[str, list[Path]] = defaultdict(list)
    for header in headers:
        role = "label" if header.sop_class in LABEL_KINDS else ROLES_OF.get(header.modality)
        roles[role or "other"].append(header.file)
    for files in beside:
        for name, path in files.items():
            roles["label" if name == NIFTI_LABEL else "other"].append(path)
    return roles


NiftiFiles = Mapping[str, Path]  # by name


def _sort_nifti(
    found: Mapping[Path, NiftiFiles], owners: Mapping[Path, str], root: Path
) -> tuple[dict[str, list[NiftiFiles]], dict[Path, NiftiFiles], list[Excluded]]:
    """NIfTI files that lie with a DICOM study, by study; NIfTI studies, by folder; the rest."""
    beside: dict[str, list[NiftiFiles]] = defaultdict(list)
    studies = {}
    orphans = []
    for folder, files in sorted(found.items()):
        is_study = NIFTI_PET in files or NIFTI_ACTIVITY in files
        owner = _owner_of(folder, owners, root, is_study)
        if owner:
            beside[owner].append(files)
        elif is_study:
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


def _nifti_study(
    folder: Path, patient: str, files: NiftiFiles, accept: Collection[str], key: str
) -> Study:
    if NIFTI_PET not in files:
        raise StudyError(
            f"{NIFTI_ACTIVITY} alone is in Bq/mL, and NIfTI has neither dose nor weight; "
            f"expected {NIFTI_PET} in g/mL",
            str(files[NIFTI_ACTIVITY]),
        )
    ct = next((files[name] for name in NIFTI_CTS if name in files), None)
    fault = f"no CT: expected {' or '.join(NIFTI_CTS)}"
    label = files.get(NIFTI_LABEL)
    return Study(
        study=key,
        patient=patient,
        format="nifti",
        layout="autopet",
        folder=folder,
        pet_series="",
        pet=(files[NIFTI_PET],),
        ct_series="",
        ct=(ct,) if ct else (),
        label=Label("nifti", (label,), "pet") if label else None,
        warnings=() if ct else _without_ct(StudyError(fault, str(folder)), accept),
        hashed=False,
    )


def _nnunet_study(case: Case, accept: Collection[str], key: str) -> Study:
    if case.fault or case.pet is None:
        source = case.pet or case.ct or case.label or case.folder
        raise StudyError(case.fault, str(source))
    missing = StudyError("no channel of the CT beside that of the PET", str(case.pet))
    return Study(
        study=key,
        patient=case.patient,
        format="nifti",
        layout="nnunet",
        folder=case.folder,
        pet_series="",
        pet=(case.pet,),
        ct_series="",
        ct=(case.ct,) if case.ct else (),
        label=Label("nifti", (case.label,), "pet") if case.label else None,
        warnings=(*case.warnings, *(() if case.ct else _without_ct(missing, accept))),
        hashed=False,
    )


def _without_ct(fault: StudyError, accept: Collection[str]) -> tuple[str, ...]:
    """The warning of a study that may go without CT; raises the fault where it may not."""
    if "missing_ct" not in accept:
        raise fault
    return (f"{fault}; {NO_CT}",)


def _dicom_study(
    folder: Path,
    headers: Sequence[Header],
    beside: Sequence[NiftiFiles],
    settings: Mapping[str, Any],
    key: str,
) -> Study:
    accept, pattern = settings["accept"], settings["label_pattern"]
    labels, unnamed = ([], []) if pattern is None else named_labels(headers, pattern)
    referred: set[str] = set()
    for modality in ("PT", "CT"):
        if len(series := candidates_of(headers, modality)) > 1:
            referred |= referred_series(labels, series, referenced_instances)
    chosen = choose_pet(headers, referred, accept)
    pet, warnings = chosen.series, [*chosen.warnings]
    ct: Sequence[Header] = ()
    try:
        chosen = choose_ct(headers, pet, referred)
        ct = chosen.series
        warnings += chosen.warnings
    except StudyError as error:
        warnings += _without_ct(error, accept)
    patients = {header.patient for header in (*pet, *ct)}
    if None in patients:
        nameless = next(header.file for header in (*pet, *ct) if header.patient is None)
        raise StudyError(f"{tag_name('PatientID')} is missing", str(nameless))
    if len(patients) > 1:
        raise StudyError(f"its series carry {len(patients)} different {tag_name('PatientID')}")
    if ct and pet[0].frames_of_reference != ct[0].frames_of_reference:
        warnings.append(f"PET and CT differ in {tag_name('FrameOfReferenceUID')}")
    if any(NIFTI_PET in files or NIFTI_ACTIVITY in files for files in beside):
        warnings.append("NIfTI images in its folder are not used: it is read from DICOM")
    nifti_labels = [files[NIFTI_LABEL] for files in beside if NIFTI_LABEL in files]
    if pattern is None:
        nifti_labels = []
    label, notes = choose_label(labels, pet, ct, nifti_labels)
    if label and unnamed:
        listed = list_paths(header.file for header in unnamed)
        warnings.append(f"labels without a name that matches label_pattern are not used: {listed}")
    return Study(
        study=key,
        patient=pet[0].patient or "",
        format="dicom",
        layout="",
        folder=folder,
        pet_series=pet[0].series,
        pet=tuple(sorted(header.file for header in pet)),
        ct_series=ct[0].series if ct else "",
        ct=tuple(sorted(header.file for header in ct)),
        label=label,
        warnings=(*warnings, *notes),
        hashed=False,
    )


def to_entry(study: Study, root: Path) -> dict[str, Any]:
    """A study as an entry of the index: what is read, from where, and what was decided."""
    label = study.label
    return {
        "study": study.study,
        "patient": study.patient,
        "hashed": study.hashed,
        "format": study.format,
        "layout": study.layout,
        "folder": str(study.folder),
        "pet": {"series": study.pet_series, "files": [str(path) for path in study.pet]},
        "ct": {"series": study.ct_series, "files": [str(path) for path in study.ct]},
        "label": label
        and {
            "kind": label.kind,
            "files": [str(path) for path in label.files],
            "refers_to": label.refers_to,
        },
        "warnings": list(study.warnings),
        "fingerprint": fingerprint(study, root),
    }


def fingerprint(study: Study, root: Path) -> str:
    """SHA-256 over relative path, size and modification time of every file of a study."""
    sha = sha256()
    for path in (*study.pet, *study.ct, *(study.label.files if study.label else ())):
        status = path.stat()
        sha.update(f"{path.relative_to(root)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return sha.hexdigest()
