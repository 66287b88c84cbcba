"""A DICOM series: its headers, in order along the patient, and the grid they form.

Only positions in patient space decide the order; file names and instance numbers do not.
Sources: DICOM PS3.3 C.7.6.1.1.2 (Image Type), C.7.6.2 (Image Plane Module) and C.8.9.1 (PET
Series Module: numbers of slices, time slices, time slots and R-R intervals).
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)

from petct.errors import StudyError
from petct.grids import Grid

# pydicom's own complaints quote values, names of patients included, and paths. What matters here
# is checked below, and reported by the name of the tag.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
warnings.filterwarnings("ignore", module=r"pydicom\.")
logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # it logs the same

COSINE_TOLERANCE = 1e-3  # of direction cosines, between the slices of one series
SPACING_TOLERANCE = 0.05  # of the slice spacing (or pixel spacing), for a slice's own position

HU_LOWEST, HU_HIGHEST = -1024, 32767  # air; what int16 can hold

SAME_PLACE_MM = 0.01  # positions are written with about this many decimals
STEEPEST_TILT_DEG = 45.0  # gantries tilt by 30 at most

# Images that are views of the patient and never slices of a volume.
VIEWS = frozenset({"LOCALIZER", "MIP", "PROJECTION IMAGE"})
SEVERAL_TIMES = ("NumberOfTimeSlices", "NumberOfTimeSlots", "NumberOfRRIntervals")
# Two files with these alike, and their pixels, are copies of one slice.
OF_A_COPY = (
    ("RescaleSlope", 1),
    ("RescaleIntercept", 1),
    ("Rows", 1),
    ("Columns", 1),
    ("BitsStored", 1),
    ("PixelRepresentation", 1),
)
SIZES = ("Rows", "Columns", "BitsAllocated")
TIMES_OF_A_COPY = ("AcquisitionDate", "AcquisitionTime", "FrameReferenceTime")
SOFT_TISSUE_HU = (-900.0, 3000.0)  # lung to bone: what padding cannot be told from


def tag_name(keyword: str) -> str:
    """``PatientWeight`` -> ``PatientWeight (0010,1030)``."""
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return f"{keyword} ({tag >> 16:04X},{tag & 0xFFFF:04X})"


def series_name(header: Dataset) -> str:
    return f"{header.get('Modality', '?')} series {header.get('SeriesInstanceUID', '?')}"


def file_of(header: Dataset) -> str:
    return str(header.filename)


def _value(header: Dataset, keyword: str, within: Sequence[str]) -> Any:
    """The tag's value, from the first items of the nested sequences ``within``, or None."""
    for sequence in within:
        items = header.get(sequence)
        if not items:
            return None
        header = items[0]
    return header.get(keyword)


def text(header: Dataset, keyword: str, within: Sequence[str] = ()) -> str | None:
    """The tag's first value as stripped text, or None if the tag is absent or empty.

    ``within``: look in the first item of each of these sequences, one in the other. Raises
    StudyError if the value cannot be decoded.
    """
    try:
        value = _value(header, keyword, within)
        if value is not None and not isinstance(value, str) and hasattr(value, "__getitem__"):
            value = value[0] if len(value) else None
    except Exception as error:  # values are decoded on access, and may be anything
        raise StudyError(
            f"{tag_name(keyword)} of {series_name(header)} cannot be read", file_of(header)
        ) from error
    found = "" if value is None else str(value).strip(" \0")
    return found or None


def numbers(
    header: Dataset, keyword: str, count: int, within: Sequence[str] = ()
) -> tuple[float, ...]:
    """The tag's ``count`` finite numbers. Raises StudyError if there is anything else."""
    where = f"{tag_name(keyword)} of {series_name(header)}"
    expected = "expected a number" if count == 1 else f"expected {count} numbers"
    try:
        value = _value(header, keyword, within)
        several = hasattr(value, "__len__") and not isinstance(value, str)
        given = [] if value is None or value == "" else list(value) if several else [value]
        found = [float(v) for v in given]
    except Exception as error:  # values are decoded on access, and may be anything
        raise StudyError(f"{where} cannot be read, {expected}", file_of(header)) from error
    if not found:
        raise StudyError(f"{where} is missing, {expected}", file_of(header))
    if len(found) != count or not np.all(np.isfinite(found)):
        raise StudyError(f"{where} is {found}, {expected}", file_of(header))
    return tuple(found)


def read_headers(files: Sequence[Path]) -> list[Dataset]:
    """Everything before the pixels of each file. Raises StudyError for an unreadable file."""
    headers: list[Dataset] = []
    for file in files:
        try:
            header = pydicom.dcmread(file, stop_before_pixels=True, force=True)
        except Exception as error:  # a damaged file may fail anywhere in the parser
            raise StudyError(
                f"not readable as DICOM ({type(error).__name__})", str(file)
            ) from error
        if "SeriesInstanceUID" not in header:
            raise StudyError(f"{tag_name('SeriesInstanceUID')} is missing", str(file))
        if text(header, "NumberOfFrames") and numbers(header, "NumberOfFrames", 1)[0] > 1:
            raise StudyError(
                f"{series_name(header)} is an enhanced multi-frame object; "
                "expected one file per slice",
                str(file),
            )
        headers.append(header)
    return headers


def read_dataset(file: str | Path) -> Dataset:
    """A whole file, of which a bare data set (no meta information) gets its transfer syntax."""
    dataset = pydicom.dcmread(file, force=True)
    if "TransferSyntaxUID" not in dataset.file_meta:  # native pixels, as nothing says otherwise
        implicit, little = dataset.original_encoding
        native = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else native
    return dataset


def axes_of(cosines: Sequence[float]) -> np.ndarray | None:
    """The unit vectors (rows of a 3 x 3 array) along x (columns), y (rows) and the normal.

    ``cosines``: ImageOrientationPatient. None if they are not two perpendicular unit vectors.
    """
    along_x, along_y = np.reshape(cosines, (2, 3))
    lengths = np.linalg.norm([along_x, along_y], axis=1)
    if np.any(abs(lengths - 1) > 0.01) or abs(along_x @ along_y) > 0.01:
        return None
    along_x = along_x / lengths[0]
    normal = np.cross(along_x, along_y)
    normal /= np.linalg.norm(normal)
    return np.stack([along_x, np.cross(normal, along_x), normal])


def slice_axes(header: Dataset) -> np.ndarray:
    """What ``axes_of`` makes of a slice's orientation. Raises StudyError where that is None."""
    cosines = numbers(header, "ImageOrientationPatient", 6)
    axes = axes_of(cosines)
    if axes is None:
        raise StudyError(
            f"{tag_name('ImageOrientationPatient')} of {series_name(header)} is "
            f"{list(cosines)}, expected two perpendicular unit vectors",
            file_of(header),
        )
    return axes


@dataclass(frozen=True)
class Stack:
    """``slices``: headers in ascending position along their normal; they form ``grid``.

    ``shifts_yx``: where in its slice of the grid the first pixel of each file lies [pixels], if
    the gantry was tilted; empty where all fill the grid.
    """

    slices: tuple[Dataset, ...]
    grid: Grid
    warnings: tuple[str, ...]
    shifts_yx: tuple[tuple[float, float], ...] = ()


def order_slices(headers: Sequence[Dataset], single_slices: bool) -> Stack:
    """The slices in ascending position along their common normal, and the grid they form.

    ``single_slices``: whether one slice is accepted as a volume; its spacing along the normal is
    its SliceThickness. Copies of a slice and localizers are left out, with a warning. A CT whose
    slices drift sideways evenly (tilted gantry) gets a grid that holds all of them. Raises
    StudyError, naming file and numbers, if the slices are not one evenly spaced stack: missing or
    shifted slices, two different ones at a position, mixed orientations or sizes.
    """
    name, modality = series_name(headers[0]), text(headers[0], "Modality")
    if modality == "PT":
        _check_times(headers)
    headers, left_out = _without_views(headers)
    axes, shape, spacing_yx = _common_plane(headers)
    ordered, positions, copies = _by_position(headers, axes)
    first = ordered[0]
    if len(ordered) == 1 and not single_slices:
        raise StudyError(f"{name} has one slice, expected a volume", file_of(first))

    along_normal_mm = positions @ axes[2]
    _check_gaps(ordered, along_normal_mm, name)
    if len(ordered) > 1:  # of PET; a slice missing at an end leaves no gap
        stated = numbers(first, "NumberOfSlices", 1) if text(first, "NumberOfSlices") else (0,)
        if stated[0] > len(ordered):
            raise StudyError(
                f"{name} has {len(ordered)} slices, expected {stated[0]:g} by "
                f"{tag_name('NumberOfSlices')}",
                file_of(first),
            )
    spacing_z = _even_spacing_mm(ordered, along_normal_mm, name)
    grid = Grid(
        shape_zyx=(len(ordered), *shape),
        spacing_xyz_mm=(spacing_yx[1], spacing_yx[0], spacing_z),
        origin_xyz_mm=(float(positions[0, 0]), float(positions[0, 1]), float(positions[0, 2])),
        direction=tuple(float(v) + 0.0 for v in axes.T.ravel()),  # no -0.0
    )
    notes = [*left_out, *copies, *_notes_on_pixels(ordered, modality)]
    drift_mm = (positions - positions[0]) @ axes[:2].T  # of each slice, along x and y
    tolerance_mm = SPACING_TOLERANCE * min(spacing_yx)
    if np.abs(drift_mm).max() <= tolerance_mm:
        return Stack(tuple(ordered), grid, tuple(notes))

    worst = int(np.abs(drift_mm).max(axis=1).argmax())
    per_slice_mm = drift_mm[-1] / (len(ordered) - 1)
    uneven_mm = np.abs(drift_mm - per_slice_mm * np.arange(len(ordered))[:, None]).max()
    tilt_deg = float(np.degrees(np.arctan2(np.linalg.norm(per_slice_mm), spacing_z)))
    if modality != "CT" or uneven_mm > tolerance_mm or tilt_deg > STEEPEST_TILT_DEG:
        raise StudyError(
            f"{name} is sheared (tilted gantry?): a slice is shifted sideways by "
            f"{np.abs(drift_mm[worst]).max():.2f} mm, expected a stack along the slice normal",
            file_of(ordered[worst]),
        )
    notes.append(
        f"{name} was taken with a gantry tilted by {tilt_deg:.1f} degrees: its slices were moved "
        "sideways onto a straight stack, linear between pixels"
    )
    grid, shifts = _straight_grid(grid, drift_mm[:, ::-1] / spacing_yx)
    return Stack(tuple(ordered), grid, tuple(notes), shifts)


def _check_times(headers: Sequence[Dataset]) -> None:
    """Raise StudyError if a PET series states that it shows several times or gates."""
    for header in headers:
        for keyword in SEVERAL_TIMES:
            if text(header, keyword) and numbers(header, keyword, 1)[0] > 1:
                raise StudyError(
                    f"{tag_name(keyword)} of {series_name(header)} is "
                    f"{numbers(header, keyword, 1)[0]:g}: dynamic or gated, expected a static scan",
                    file_of(header),
                )


def _without_views(headers: Sequence[Dataset]) -> tuple[list[Dataset], list[str]]:
    """The headers without localizers, projections and screen saves that lie among the slices.

    Only what says so itself is left out, and only where most of the series does not. Derived
    secondary images count if, besides, none of them has the geometry of the others.
    """
    types = [_image_type(header) for header in headers]
    views = [bool(words & VIEWS) for words in types]
    derived = [
        {"DERIVED", "SECONDARY"} <= words
        or header.get("SOPClassUID") == SecondaryCaptureImageStorage
        for header, words in zip(headers, types, strict=True)
    ]
    if not any(views) and not any(derived):
        return list(headers), []
    plain = {_plane(h) for h, v, d in zip(headers, views, derived, strict=True) if not (v or d)}
    alike = any(
        _plane(h) in plain for h, v, d in zip(headers, views, derived, strict=True) if d and not v
    )
    if alike or not plain:
        derived = [False] * len(headers)
    out = [v or d for v, d in zip(views, derived, strict=True)]
    if not any(out) or sum(out) >= len(headers) / 2:
        return list(headers), []
    note = (
        f"{sum(out)} image(s) of {series_name(headers[0])} left out: localizers, projections or "
        f"screen saves by their {tag_name('ImageType')}"
    )
    return [h for h, o in zip(headers, out, strict=True) if not o], [note]


def _image_type(header: Dataset) -> frozenset[str]:
    try:
        value = header.get("ImageType")
        words = [value] if isinstance(value, str) else list(value or [])
        return frozenset(str(word).strip().upper() for word in words)
    except Exception:  # values are decoded on access; damaged, it says nothing of the image
        return frozenset()


def _plane(header: Dataset) -> tuple[float, ...] | None:
    """Size, pixel spacing and orientation, as far as to tell two kinds of images apart."""
    try:
        axes = slice_axes(header).ravel()
        return (
            *numbers(header, "Rows", 1),
            *numbers(header, "Columns", 1),
            *(round(v, 2) for v in numbers(header, "PixelSpacing", 2)),
            *(round(float(v), 1) + 0.0 for v in axes),
        )
    except StudyError:
        return None


def _common_plane(
    headers: Sequence[Dataset],
) -> tuple[np.ndarray, tuple[int, int], tuple[float, float]]:
    """Axes (3 x 3), rows and columns, and pixel spacing (y, x) [mm] that all slices share."""
    first = headers[0]
    name = series_name(first)
    axes = slice_axes(first)
    shape = numbers(first, "Rows", 1) + numbers(first, "Columns", 1)
    spacing_yx = numbers(first, "PixelSpacing", 2)
    if min(*shape, *spacing_yx) <= 0:
        raise StudyError(f"{name} has {shape} pixels of {spacing_yx} mm", file_of(first))
    for header in headers[1:]:
        if np.any(abs(slice_axes(header) - axes) > COSINE_TOLERANCE):
            raise StudyError(f"{name} has slices of several orientations", file_of(header))
        this = numbers(header, "Rows", 1) + numbers(header, "Columns", 1)
        if this != shape:
            raise StudyError(f"{name} has slices of {this} and {shape} pixels", file_of(header))
        if not np.allclose(numbers(header, "PixelSpacing", 2), spacing_yx, rtol=1e-3, atol=0):
            raise StudyError(f"{name} has slices of several pixel spacings", file_of(header))
    return axes, (int(shape[0]), int(shape[1])), (spacing_yx[0], spacing_yx[1])


def _by_position(
    headers: Sequence[Dataset], axes: np.ndarray
) -> tuple[list[Dataset], np.ndarray, list[str]]:
    """The slices along their normal without copies, their positions (N, 3) [mm], and a note."""
    positions = np.array([numbers(header, "ImagePositionPatient", 3) for header in headers])
    order = np.argsort(positions @ axes[2], kind="stable")
    kept: list[int] = []
    for i in order:
        doubled = kept and np.abs(positions[i] - positions[kept[-1]]).max() < SAME_PLACE_MM
        if not (doubled and _is_copy(headers[i], headers[kept[-1]])):
            kept.append(int(i))
    dropped = len(headers) - len(kept)
    notes = [f"{dropped} file(s) of {series_name(headers[0])} are copies of other slices"]
    return [headers[i] for i in kept], positions[kept], notes if dropped else []


def _is_copy(one: Dataset, other: Dataset) -> bool:
    if any(numbers(one, k, n) != numbers(other, k, n) for k, n in OF_A_COPY):
        return False
    if any(text(one, keyword) != text(other, keyword) for keyword in TIMES_OF_A_COPY):
        return False
    pixels = []
    for header in (one, other):
        try:
            dataset = pydicom.dcmread(header.filename, force=True)
            pixels.append((dataset.file_meta.get("TransferSyntaxUID"), dataset.PixelData))
            native_bytes = math.prod(numbers(header, k, 1)[0] for k in SIZES) / 8
            compressed = dataset["PixelData"].is_undefined_length
            if not compressed and len(dataset.PixelData) < native_bytes:
                raise EOFError
        except Exception as error:  # a damaged file may fail anywhere in the parser
            raise StudyError(
                f"pixel data of {series_name(header)} cannot be read, the file may be truncated "
                f"({type(error).__name__})",
                file_of(header),
            ) from error
    return bool(pixels[0] == pixels[1])


def _even_spacing_mm(ordered: Sequence[Dataset], along_normal_mm: np.ndarray, name: str) -> float:
    """The distance of the slices; of one slice, its thickness."""
    if len(ordered) == 1:
        (thickness,) = numbers(ordered[0], "SliceThickness", 1)
        if thickness <= 0:
            raise StudyError(
                f"{tag_name('SliceThickness')} of {name} is {thickness:g}, expected more than 0",
                file_of(ordered[0]),
            )
        return thickness
    spacing_z = float(along_normal_mm[-1] - along_normal_mm[0]) / (len(ordered) - 1)
    even_mm = along_normal_mm[0] + spacing_z * np.arange(len(ordered))
    off_mm = abs(along_normal_mm - even_mm)
    if off_mm.max() > SPACING_TOLERANCE * spacing_z:
        worst = int(off_mm.argmax())
        raise StudyError(
            f"{name} is unevenly spaced: the slice at {along_normal_mm[worst]:.2f} mm lies "
            f"{off_mm[worst]:.2f} mm off an even spacing of {spacing_z:.3f} mm",
            file_of(ordered[worst]),
        )
    return spacing_z


def _straight_grid(
    grid: Grid, drift_yx: np.ndarray
) -> tuple[Grid, tuple[tuple[float, float], ...]]:
    """``grid`` widened to hold slices that drift by (N, 2) pixels, and where each begins in it."""
    lowest = np.floor(drift_yx.min(axis=0) + 1e-6).astype(int)
    wider = np.ceil(drift_yx.max(axis=0) - 1e-6).astype(int) - lowest
    depth, rows, columns = grid.shape_zyx
    start = (0, int(lowest[0]), int(lowest[1]))
    held = grid.cut(start, (depth, rows + int(wider[0]), columns + int(wider[1])))
    return held, tuple((float(y), float(x)) for y, x in drift_yx - lowest)


def padding_values(header: Dataset) -> tuple[int, int] | None:
    """The stored values, first and last, that stand for "not measured" in this slice, or None.

    A value of the wrong signedness is taken as the bits that it is written with.
    """
    if not text(header, "PixelPaddingValue"):
        return None
    (size,) = numbers(header, "BitsAllocated", 1)
    (signed,) = numbers(header, "PixelRepresentation", 1)
    ends = []
    for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        if text(header, keyword):
            value = int(numbers(header, keyword, 1)[0]) % 2 ** int(size)
            above = signed and value >= 2 ** (int(size) - 1)
            ends.append(value - 2 ** int(size) if above else value)
    return min(ends), max(ends)


def _notes_on_pixels(ordered: Sequence[Dataset], modality: str | None) -> list[str]:
    """What the headers say of all the pixels that the reader of the result should know."""
    name, notes = series_name(ordered[0]), []
    lossy = sum(text(header, "LossyImageCompression") == "01" for header in ordered)
    if lossy:
        notes.append(
            f"{lossy} slice(s) of {name} went through a lossy compression, by "
            f"{tag_name('LossyImageCompression')}: values are approximate"
        )
    padding = padding_values(ordered[0])
    if modality == "CT" and padding:
        slope, intercept = (
            numbers(ordered[0], f"Rescale{k}", 1)[0] for k in ("Slope", "Intercept")
        )
        low, high = (slope * value + intercept for value in padding)
        if high > SOFT_TISSUE_HU[0] and low < SOFT_TISSUE_HU[1]:
            notes.append(
                f"{tag_name('PixelPaddingValue')} of {name} stands for {low:g} HU, as in tissue: "
                "such pixels are taken as not measured, -1024 HU"
            )
    return notes


def _check_gaps(ordered: Sequence[Dataset], along_normal_mm: np.ndarray, name: str) -> None:
    gaps_mm = np.diff(along_normal_mm)
    usual_mm = float(np.median(gaps_mm)) if len(gaps_mm) else 0.0
    for (before, after), gap_mm, at_mm in zip(
        pairwise(ordered), gaps_mm, along_normal_mm, strict=False
    ):
        where = f"at {at_mm:.2f} mm (instances {_instance(before)} and {_instance(after)})"
        if gap_mm < SAME_PLACE_MM or gap_mm < 0.2 * usual_mm:
            raise StudyError(
                f"{name} has two different slices {where}, {gap_mm:.2f} mm apart; dynamic or "
                "gated, or two reconstructions in one series",
                file_of(after),
            )
        if gap_mm > 1.5 * usual_mm:
            raise StudyError(
                f"{name} lacks {round(gap_mm / usual_mm) - 1} slice(s) after the one {where}: "
                f"a gap of {gap_mm:.2f} mm, expected {usual_mm:.2f} mm",
                file_of(before),
            )


def _instance(header: Dataset) -> str:
    try:
        stated = text(header, "InstanceNumber") or ""
    except StudyError:  # it only serves messages
        stated = ""
    return stated if stated.isdecimal() else "?"
