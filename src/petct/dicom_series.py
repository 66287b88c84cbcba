"""A DICOM series: its slices in order along the patient, and their voxels.

Only positions in patient space decide the order; file names and instance numbers do not.
Sources: DICOM PS3.3 C.7.6.2 (Image Plane Module) and C.11.1 (Modality LUT Module).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from petct.errors import StudyError
from petct.grids import Grid

# pydicom's own complaints about values quote them, names of patients included. What matters here
# is checked below, and reported by the name of the tag.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE

COSINE_TOLERANCE = 1e-3  # of direction cosines, between the slices of one series
SPACING_TOLERANCE = 0.05  # of the slice spacing (or pixel spacing), for a slice's own position

HU_LOWEST, HU_HIGHEST = -1024, 32767  # air; what int16 can hold


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
        if int(text(header, "NumberOfFrames") or 1) > 1:
            raise StudyError(
                f"{series_name(header)} is an enhanced multi-frame object; "
                "expected one file per slice",
                str(file),
            )
        headers.append(header)
    return headers


def slice_axes(header: Dataset) -> np.ndarray:
    """The unit vectors (rows of a 3 x 3 array) along x (columns), y (rows) and the slice normal."""
    cosines = np.reshape(numbers(header, "ImageOrientationPatient", 6), (2, 3))
    along_x, along_y = cosines
    lengths = np.linalg.norm(cosines, axis=1)
    if np.any(abs(lengths - 1) > 0.01) or abs(along_x @ along_y) > 0.01:
        raise StudyError(
            f"{tag_name('ImageOrientationPatient')} of {series_name(header)} is "
            f"{cosines.ravel().tolist()}, expected two perpendicular unit vectors",
            file_of(header),
        )
    along_x = along_x / lengths[0]
    normal = np.cross(along_x, along_y)
    normal /= np.linalg.norm(normal)
    return np.stack([along_x, np.cross(normal, along_x), normal])


@dataclass(frozen=True)
class Stack:
    """``slices``: headers in ascending position along their normal; they form ``grid``."""

    slices: tuple[Dataset, ...]
    grid: Grid
    warnings: tuple[str, ...]


def order_slices(headers: Sequence[Dataset], single_slices: bool) -> Stack:
    """The slices in ascending position along their common normal, and the grid they form.

    ``single_slices``: whether one slice is accepted as a volume; its spacing along the normal is
    its SliceThickness. Raises StudyError, naming file and numbers, if the slices are not one
    evenly spaced stack: missing, doubled or shifted slices, mixed orientations or sizes.
    """
    first = headers[0]
    name = series_name(first)
    if len(headers) < 2 and not single_slices:
        raise StudyError(f"{name} has one slice, expected a volume", file_of(first))

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

    positions = np.array([numbers(header, "ImagePositionPatient", 3) for header in headers])
    order = np.argsort(positions @ axes[2], kind="stable")
    ordered = [headers[i] for i in order]
    positions = positions[order]
    along_normal_mm = positions @ axes[2]
    _check_gaps(ordered, along_normal_mm, name)

    stated = text(first, "NumberOfSlices")  # of PET; a slice missing at an end leaves no gap
    one_of_many = len(ordered) == 1
    if stated and not one_of_many and numbers(first, "NumberOfSlices", 1)[0] > len(ordered):
        raise StudyError(
            f"{name} has {len(ordered)} slices, expected {stated} by {tag_name('NumberOfSlices')}",
            file_of(first),
        )
    if len(ordered) == 1:
        (spacing_z,) = numbers(first, "SliceThickness", 1)
        if spacing_z <= 0:
            raise StudyError(
                f"{tag_name('SliceThickness')} of {name} is {spacing_z}, expected more than 0",
                file_of(first),
            )
    else:
        spacing_z = (along_normal_mm[-1] - along_normal_mm[0]) / (len(ordered) - 1)
    even_mm = along_normal_mm[0] + spacing_z * np.arange(len(ordered))
    off_mm = abs(along_normal_mm - even_mm)
    if off_mm.max() > SPACING_TOLERANCE * spacing_z:
        worst = int(off_mm.argmax())
        raise StudyError(
            f"{name} is unevenly spaced: the slice at {along_normal_mm[worst]:.2f} mm lies "
            f"{off_mm[worst]:.2f} mm off an even spacing of {spacing_z:.3f} mm",
            file_of(ordered[worst]),
        )
    drift_mm = np.abs((positions - positions[0]) @ axes[:2].T).max(axis=1)
    if drift_mm.max() > SPACING_TOLERANCE * min(spacing_yx):
        worst = int(drift_mm.argmax())
        raise StudyError(
            f"{name} is sheared (tilted gantry?): a slice is shifted sideways by "
            f"{drift_mm[worst]:.2f} mm, expected a stack along the slice normal",
            file_of(ordered[worst]),
        )
    grid = Grid(
        shape_zyx=(len(ordered), int(shape[0]), int(shape[1])),
        spacing_xyz_mm=(spacing_yx[1], spacing_yx[0], float(spacing_z)),
        origin_xyz_mm=(float(positions[0, 0]), float(positions[0, 1]), float(positions[0, 2])),
        direction=tuple(float(v) + 0.0 for v in axes.T.ravel()),  # no -0.0
    )
    return Stack(tuple(ordered), grid, ())


def _check_gaps(ordered: Sequence[Dataset], along_normal_mm: np.ndarray, name: str) -> None:
    gaps_mm = np.diff(along_normal_mm)
    usual_mm = float(np.median(gaps_mm))
    for (before, after), gap_mm, at_mm in zip(
        pairwise(ordered), gaps_mm, along_normal_mm, strict=False
    ):
        where = f"at {at_mm:.2f} mm (instances {_instance(before)} and {_instance(after)})"
        if gap_mm < 0.01 or gap_mm < 0.2 * usual_mm:
            raise StudyError(
                f"{name} has two slices {where}, {gap_mm:.2f} mm apart; "
                "doubled files, or a dynamic or gated series",
                file_of(after),
            )
        if gap_mm > 1.5 * usual_mm:
            raise StudyError(
                f"{name} lacks {round(gap_mm / usual_mm) - 1} slice(s) after the one {where}: "
                f"a gap of {gap_mm:.2f} mm, expected {usual_mm:.2f} mm",
                file_of(before),
            )


def _instance(header: Dataset) -> str:
    return text(header, "InstanceNumber") or "?"


def rescaled_slice(header: Dataset) -> np.ndarray:
    """Stored pixels x the slice's own RescaleSlope + RescaleIntercept, float64 (Y, X).

    Raises StudyError if the file is truncated, cannot be decoded or is not a plain grey image.
    """
    if "ModalityLUTSequence" in header:
        raise StudyError(
            f"{series_name(header)} has a {tag_name('ModalityLUTSequence')}; "
            f"expected {tag_name('RescaleSlope')}",
            file_of(header),
        )
    (slope,) = numbers(header, "RescaleSlope", 1)
    (intercept,) = numbers(header, "RescaleIntercept", 1)
    shape = int(numbers(header, "Rows", 1)[0]), int(numbers(header, "Columns", 1)[0])
    try:
        dataset = pydicom.dcmread(header.filename, force=True)
        if "TransferSyntaxUID" not in dataset.file_meta:  # a bare data set; native pixels
            implicit, little = dataset.original_encoding
            native = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
            dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else native
        # A file that ends within an element loses that element without a word.
        pixels = dataset.pixel_array if "PixelData" in dataset else None
    except Exception as error:  # decoders fail in their own ways
        raise StudyError(
            f"pixel data of {series_name(header)} cannot be decoded, the file may be truncated "
            f"({type(error).__name__}: {error})",
            file_of(header),
        ) from error
    if pixels is None:
        raise StudyError(
            f"{series_name(header)}: the file has no {tag_name('PixelData')}; truncated?",
            file_of(header),
        )
    if pixels.shape != shape:
        raise StudyError(
            f"{series_name(header)}: the pixel data is {pixels.shape}, expected {shape}",
            file_of(header),
        )
    return pixels.astype(np.float64) * slope + intercept


def read_hounsfield(stack: Stack) -> np.ndarray:
    """CT numbers [HU] of a stack, int16 (Z, Y, X).

    Values below -1024 (the scanner's padding outside its field of view) become -1024, air;
    values above what int16 holds become 32767.
    """
    hounsfield = np.empty(stack.grid.shape_zyx, np.int16)
    for z, header in enumerate(stack.slices):
        values = np.rint(rescaled_slice(header))
        hounsfield[z] = np.clip(values, HU_LOWEST, HU_HIGHEST).astype(np.int16)
    return hounsfield
