"""What lies in a tree of files: DICOM by header, NIfTI by name. Each file is opened once.

Sources: DICOM PS3.3 C.7.6.1.1.2 and C.8.2.1.1.1 (Image Type), C.8.9.1.1.4 (PET Series Type).
"""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
from pydicom import uid
from pydicom.dataset import Dataset

from petct.dicom_series import tag_name, text

LABEL_KINDS = {
    str(uid.SegmentationStorage): "seg",
    "1.2.840.10008.5.1.4.1.1.66.7": "seg",  # Label Map Segmentation Storage
    str(uid.RTStructureSetStorage): "rtstruct",
}
# What the AutoPET release calls its files; the first CT found is used.
NIFTI_PET, NIFTI_CTS, NIFTI_LABEL = "SUV.nii.gz", ("CT.nii.gz", "CTres.nii.gz"), "SEG.nii.gz"
NIFTI_ACTIVITY = "PET.nii.gz"  # in Bq/mL
NIFTI_NAMES = {NIFTI_PET, *NIFTI_CTS, NIFTI_LABEL, NIFTI_ACTIVITY}
# nnU-Net's folders of images, and where the labels of each lie.
NNUNET_LABELS = {"imagesTr": "labelsTr", "imagesTs": "labelsTs"}
NNUNET_FOLDERS = {*NNUNET_LABELS, *NNUNET_LABELS.values()}
# ImageType of what is no slice of a volume, and what to call it.
NO_SLICES = {"LOCALIZER": "localizer", "MIP": "projection", "SCREEN SAVE": "screen save"}
NO_SLICES |= {"MINIP": "projection", "PROJECTION IMAGE": "projection"}
FEW_FILES = 1000  # read before another process has started
DICOM_ENDINGS = (".dcm", ".dicom", ".ima")
EXPLICIT_VRS = {b"AE", b"CS", b"DA", b"IS", b"LO", b"SH", b"TM", b"UI", b"UL", b"OB"}
READ = [
    *["SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "Modality", "ImageType"],
    *["StudyInstanceUID", "SeriesInstanceUID", "PatientID", "FrameOfReferenceUID"],
    *["ReferencedSeriesSequence", "ReferencedFrameOfReferenceSequence"],
    *["StructureSetROISequence", "SegmentSequence"],
    *["CorrectedImage", "SeriesType", "SeriesNumber", "ImagePositionPatient"],
]


@dataclass(frozen=True)
class Header:
    """What the index needs of one DICOM file. Labels have ``names`` and what they refer to.

    ``no_slice``: what an image is that is no slice of a volume ("localizer", "projection", ...),
    else empty. ``series_type`` and ``corrected`` (CorrectedImage) are empty where the tag is.
    ``series_number`` and ``position_mm`` (LPS) are None where they are no numbers.
    """

    file: Path
    study: str
    series: str
    modality: str
    sop_class: str
    instance: str
    patient: str | None
    frames_of_reference: frozenset[str]
    no_slice: str
    series_type: tuple[str, ...]
    corrected: tuple[str, ...]
    series_number: float | None
    position_mm: tuple[float, ...] | None
    names: tuple[str, ...]
    referenced_series: frozenset[str]


@dataclass
class Tree:
    """What one walk found: DICOM headers, damaged DICOM files, NIfTI files by folder.

    ``nnunet``: the NIfTI files of folders that are named as nnU-Net's. ``bids``: PET in BIDS.
    """

    headers: list[Header] = field(default_factory=list)
    damaged: list[tuple[Path, str]] = field(default_factory=list)
    nifti: dict[Path, dict[str, Path]] = field(default_factory=lambda: defaultdict(dict))
    nnunet: dict[Path, list[Path]] = field(default_factory=lambda: defaultdict(list))
    bids: list[Path] = field(default_factory=list)
    files: int = 0


def read_tree(root: Path, workers: int) -> Tree:
    """Walk ``root`` and read what it holds. Links are followed; hidden names are left out.

    A header costs 1 to 2 ms; many are read by ``workers`` processes.
    """
    tree = Tree()
    paths = []
    for path in _walk(root, tree.damaged):
        tree.files += 1
        if path.parent.name in NNUNET_FOLDERS and path.name.endswith(".nii.gz"):
            tree.nnunet[path.parent].append(path)
        elif path.name in NIFTI_NAMES:
            tree.nifti[path.parent][path.name] = path
        elif path.parent.name == "pet" and path.name.endswith("_pet.nii.gz"):
            tree.bids.append(path)
        else:
            paths.append(path)
    if workers > 1 and len(paths) > FEW_FILES:
        with ProcessPoolExecutor(workers) as pool:
            results = list(pool.map(read_header, paths, chunksize=200))
    else:
        results = [read_header(path) for path in paths]
    for path, found in zip(paths, results, strict=True):
        if isinstance(found, Header):
            tree.headers.append(found)
        elif found:
            tree.damaged.append((path, found))
    return tree


def _walk(root: Path, damaged: list[tuple[Path, str]]) -> Iterator[Path]:
    """Every file below ``root``. What cannot be listed goes to ``damaged``, with the reason."""
    folders, seen = [str(root)], set()
    while folders:
        folder = folders.pop()
        try:
            status = Path(folder).stat()
            if (status.st_dev, status.st_ino) in seen:
                continue  # a link back into the tree
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:  # no permission, a network drive that went away
            damaged.append((Path(folder), f"folder that cannot be read ({type(error).__name__})"))
            continue
        for entry in listed:
            if entry.name.startswith("."):
                continue
            try:
                is_folder, is_file = entry.is_dir(), entry.is_file()
            except OSError:  # a link to itself
                is_folder = is_file = False
            if is_folder:
                folders.append(entry.path)
            elif is_file:
                yield Path(entry.path)
            elif entry.is_symlink() and entry.name.lower().endswith(DICOM_ENDINGS):
                damaged.append((Path(entry.path), "named as DICOM, but a link that leads nowhere"))


def read_header(path: Path) -> Header | str | None:
    """A DICOM file's header; a reason, if it is DICOM but damaged; None, if it is not DICOM.

    DICOM is what has the DICM prefix, or starts without it as a data set of group 0008 or 0002
    would (little or big endian; a known VR, or a short even length). A file that only has
    a name that ends as DICOM's do is taken for a damaged one, and so is one without any ending
    that is empty or begins with a preamble's zeros and nothing else.
    """
    named = path.suffix.lower() in DICOM_ENDINGS
    try:
        with path.open("rb") as file:
            start = file.read(132)
        if not path.suffix and not start.strip(b"\0"):
            return "empty, or cut short before its DICOM prefix"
        if start[128:] != b"DICM" and not _starts_a_dataset(start):
            return "named as DICOM, but it does not begin as DICOM does" if named else None
        dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=READ, force=True)
        if dataset.get("SOPClassUID") == uid.MediaStorageDirectoryStorage:
            return None
        meta = getattr(dataset, "file_meta", None)
        if meta and meta.get("MediaStorageSOPClassUID") == uid.MediaStorageDirectoryStorage:
            return None
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID"):
            if not dataset.get(keyword):
                return f"DICOM without {tag_name(keyword)}; truncated?"
        return _header(path, dataset)
    except Exception as error:  # a damaged file may fail anywhere in the parser
        return f"DICOM that cannot be read ({type(error).__name__})"


def _starts_a_dataset(start: bytes) -> bool:
    if len(start) < 8 or start[:2] not in (b"\x08\x00", b"\x02\x00", b"\x00\x08"):
        return False
    if start[4:6] in EXPLICIT_VRS:
        return True
    length = int.from_bytes(start[4:8], "little")
    return start[3] == 0 and length <= 256 and length % 2 == 0


def _header(path: Path, dataset: Dataset) -> Header:
    dataset.filename = str(path)
    kind = LABEL_KINDS.get(dataset.SOPClassUID)
    names: list[str] = []
    references: set[str] = set()
    frames = {text(dataset, "FrameOfReferenceUID") or ""} - {""}
    if kind == "seg":
        for segment in dataset.get("SegmentSequence") or []:
            names += [str(segment.get(key, "")) for key in ("SegmentLabel", "SegmentDescription")]
        references = values_within(dataset, "SeriesInstanceUID", "ReferencedSeriesSequence")
    elif kind == "rtstruct":
        rois = dataset.get("StructureSetROISequence") or []
        names = [str(roi.get("ROIName", "")) for roi in rois]
        references = values_within(
            dataset, "SeriesInstanceUID", "ReferencedFrameOfReferenceSequence"
        )
        frames |= values_within(
            dataset, "FrameOfReferenceUID", "ReferencedFrameOfReferenceSequence"
        )
    return Header(
        file=path,
        study=str(dataset.StudyInstanceUID),
        series=str(dataset.SeriesInstanceUID),
        modality=text(dataset, "Modality") or "?",
        sop_class=str(dataset.SOPClassUID),
        instance=str(dataset.get("SOPInstanceUID", "")),
        patient=text(dataset, "PatientID"),
        frames_of_reference=frozenset(frames),
        no_slice=_no_slice(_words(dataset, "ImageType"), _words(dataset, "SeriesType")),
        series_type=_words(dataset, "SeriesType"),
        corrected=_words(dataset, "CorrectedImage"),
        series_number=next(iter(_numbers(dataset, "SeriesNumber", 1) or ()), None),
        position_mm=_numbers(dataset, "ImagePositionPatient", 3),
        names=tuple(names),
        referenced_series=frozenset(references),
    )


def _no_slice(image_type: tuple[str, ...], series_type: tuple[str, ...]) -> str:
    if any(word.startswith("REPROJ") for word in series_type[1:]):
        return "projection"
    return next((NO_SLICES[word] for word in image_type if word in NO_SLICES), "")


def _words(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """A tag's values as capital letters; none where it is absent or empty."""
    value = dataset.get(keyword)
    several = isinstance(value, Iterable) and not isinstance(value, str | bytes)
    values = [] if value is None else value if several else [value]
    return tuple(word for word in (str(v).strip(" \0").upper() for v in values) if word)


def _numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """A tag's ``count`` finite numbers, or None. What reads the images names the fault."""
    try:
        value = dataset.get(keyword)
        several = isinstance(value, Iterable) and not isinstance(value, str)
        found = tuple(float(v) for v in (value if several else [value]))
    except Exception:  # values are decoded on access, and may be anything
        return None
    return found if len(found) == count and all(map(math.isfinite, found)) else None


def values_within(dataset: Dataset, keyword: str, within: str) -> set[str]:
    """Every value of a tag at any depth of a sequence."""
    found: set[str] = set()
    for item in dataset.get(within) or []:
        found |= {str(element.value) for element in item.iterall() if element.keyword == keyword}
    return found
