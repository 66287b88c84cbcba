"""The voxels of a DICOM series: decoded, checked, and in the units of its Modality LUT.

Sources: DICOM PS3.3 C.7.6.3 (Image Pixel Module), C.7.5.1.1.2 (Pixel Padding Value), C.8.9.4
(PET Image Module: Rescale Intercept is 0), C.11.1 (Modality LUT Module).
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels import pixel_array
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from petct.dicom_series import (
    HU_HIGHEST,
    HU_LOWEST,
    Stack,
    file_of,
    numbers,
    padding_values,
    read_dataset,
    series_name,
    tag_name,
    text,
)
from petct.errors import StudyError
from petct.frame_decoder import DecodingError, decode_frames

GREY = ("MONOCHROME1", "MONOCHROME2")  # they differ in display, not in what a value means
# Defined terms of RescaleType (C.11.1.1.2) that are no CT numbers.
NOT_HOUNSFIELD = ("OD", "MGML", "Z_EFF", "ED", "EDW", "PCT")
# How PixelData begins before its length, by explicit (as OW) and by implicit VR.
_EXPLICIT, _IMPLICIT = b"\xe0\x7f\x10\0OW\0\0", b"\xe0\x7f\x10\0"
DECODING_LIMIT_S = 60.0  # for a series, and one more for each slice


def rescaled_slices(headers: Sequence[Dataset]) -> Iterator[np.ndarray]:
    """Of each slice: stored pixels x its own RescaleSlope + RescaleIntercept, float64 (Y, X).

    Padding (PixelPaddingValue) becomes -1024 in CT and 0 in PET. Raises StudyError if a file is
    truncated, cannot be decoded, is not a plain grey image, or contradicts its own tags.
    """
    behind_jpeg = [header for header in headers if _is_jpeg(header)]
    limit_s = DECODING_LIMIT_S + len(behind_jpeg)
    frames = decode_frames([file_of(header) for header in behind_jpeg], limit_s)
    for header in behind_jpeg:
        _check_bits(header)
    for header in headers:
        slope, intercept = _rescale(header)
        try:
            stored = next(frames) if _is_jpeg(header) else _native_pixels(header)
        except StudyError:
            raise
        except Exception as error:  # decoders fail in their own ways, and quote what they read
            reason = str(error) if isinstance(error, DecodingError) else type(error).__name__
            raise StudyError(
                f"pixel data of {series_name(header)} cannot be decoded, the file may be "
                f"truncated ({reason})",
                file_of(header),
            ) from error
        padding = _padding(header, stored)
        if stored.dtype.kind in "iu":
            stored = _within_bits_stored(header, stored, padding)
        values = np.multiply(stored, slope, dtype=np.float64)
        if intercept or stored.dtype.kind == "f":  # + 0.0 makes of -0.0 a plain zero
            values += intercept
        if padding is not None:
            values[padding] = 0.0 if text(header, "Modality") == "PT" else HU_LOWEST
        yield values


def rescaled_slice(header: Dataset) -> np.ndarray:
    """One slice of `rescaled_slices`."""
    (values,) = rescaled_slices([header])
    return values


def read_hounsfield(stack: Stack) -> np.ndarray:
    """CT numbers [HU] of a stack, int16 (Z, Y, X) on its grid.

    Values below -1024 (the scanner's padding outside its field of view) become -1024, air, and so
    does what a tilted stack does not cover. Raises StudyError for values above what int16 holds,
    which no scanner writes.
    """
    hounsfield = np.empty(stack.grid.shape_zyx, np.int16)
    for z, (header, values) in enumerate(
        zip(stack.slices, rescaled_slices(stack.slices), strict=True)
    ):
        highest = float(values.max())
        if not highest < HU_HIGHEST + 0.5:
            raise StudyError(
                f"{series_name(header)} has a CT number of {highest:g}, expected at most "
                f"{HU_HIGHEST}; {tag_name('PixelRepresentation')} or the rescale may be wrong",
                file_of(header),
            )
        if stack.shifts_yx:
            values = straighten(values, stack.shifts_yx[z], stack.grid.shape_zyx[1:])
        np.maximum(values, HU_LOWEST, out=values)
        np.copyto(hounsfield[z], np.rint(values, out=values), casting="unsafe")
    return hounsfield


def straighten(
    values: np.ndarray, shift_yx: tuple[float, float], shape_yx: tuple[int, int]
) -> np.ndarray:
    """A slice (Y, X) whose first pixel lies at ``shift_yx`` [pixels], on ``shape_yx`` pixels.

    Linear between pixels; -1024 beyond them.
    """
    for axis in (0, 1):
        values = np.moveaxis(values, axis, 0)
        last = len(values) - 1
        at = np.arange(shape_yx[axis]) - shift_yx[axis]
        inside = (at > -1e-6) & (at < last + 1e-6)
        at = np.clip(at, 0, last)
        below = np.minimum(at.astype(int), max(last - 1, 0))
        above = np.minimum(below + 1, last)
        share = (at - below)[:, None]
        moved = values[below] * (1 - share) + values[above] * share
        moved[~inside] = HU_LOWEST
        values = np.moveaxis(moved, 0, axis)
    return values


def _is_jpeg(header: Dataset) -> bool:
    syntax = header.file_meta.get("TransferSyntaxUID")
    try:
        return bool(syntax and syntax.is_encapsulated and syntax != RLELossless)
    except ValueError as error:
        raise StudyError(
            f"{tag_name('TransferSyntaxUID')} of {series_name(header)} is no transfer syntax",
            file_of(header),
        ) from error


def _rescale(header: Dataset) -> tuple[float, float]:
    """RescaleSlope and RescaleIntercept, if they and the kind of image are as they must be."""
    name, modality = series_name(header), text(header, "Modality")
    if "ModalityLUTSequence" in header:
        raise StudyError(
            f"{name} has a {tag_name('ModalityLUTSequence')}; expected {tag_name('RescaleSlope')}",
            file_of(header),
        )
    if text(header, "PhotometricInterpretation") not in GREY:
        raise StudyError(
            f"{tag_name('PhotometricInterpretation')} of {name} is not {' or '.join(GREY)}",
            file_of(header),
        )
    (samples,) = numbers(header, "SamplesPerPixel", 1)
    if samples != 1:
        raise StudyError(
            f"{tag_name('SamplesPerPixel')} of {name} is {samples:g}, expected 1", file_of(header)
        )
    (slope,) = numbers(header, "RescaleSlope", 1)
    (intercept,) = numbers(header, "RescaleIntercept", 1)
    if slope <= 0:
        raise StudyError(
            f"{tag_name('RescaleSlope')} of {name} is {slope:g}, expected more than 0",
            file_of(header),
        )
    if modality == "PT" and intercept != 0:
        raise StudyError(
            f"{tag_name('RescaleIntercept')} of {name} is {intercept:g}, expected 0 for PET",
            file_of(header),
        )
    kind = text(header, "RescaleType")
    if modality == "CT" and kind in NOT_HOUNSFIELD:
        raise StudyError(
            f"{tag_name('RescaleType')} of {name} is {kind}, expected HU", file_of(header)
        )
    return slope, intercept


def _plain_pixels(header: Dataset) -> np.ndarray | None:
    """The stored pixels of a file that ends with them as they are, without parsing it again.

    None for whatever is not as plain: it is read, or refused, by way of `_native_pixels`.
    """
    syntax = header.file_meta.get("TransferSyntaxUID")
    stated = "PixelRepresentation" in header  # not where pixels are no integers
    if syntax not in (ExplicitVRLittleEndian, ImplicitVRLittleEndian) or not stated:
        return None
    start = _EXPLICIT if syntax == ExplicitVRLittleEndian else _IMPLICIT
    rows, columns, size, signed = (
        int(numbers(header, keyword, 1)[0])
        for keyword in ("Rows", "Columns", "BitsAllocated", "PixelRepresentation")
    )
    if size != 16 or signed not in (0, 1) or min(rows, columns) < 1:
        return None
    length = 2 * rows * columns
    expected = start + struct.pack("<I", length)
    with Path(file_of(header)).open("rb", buffering=0) as file:
        if file.seek(0, os.SEEK_END) < length + len(expected):
            return None
        file.seek(-length - len(expected), os.SEEK_END)
        content = file.read(length + len(expected))
    if not content.startswith(expected):
        return None
    stored = np.frombuffer(content, "<i2" if signed else "<u2", offset=len(expected))
    return stored.reshape(rows, columns)


def _native_pixels(header: Dataset) -> np.ndarray:
    """The stored pixels of a file that is not behind JPEG, bits beyond BitsStored as they are."""
    if (plain := _plain_pixels(header)) is not None:
        _check_bits(header)
        return plain
    dataset = read_dataset(file_of(header))
    # A file that ends within an element loses that element without a word.
    if not any(k in dataset for k in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise StudyError(
            f"{series_name(header)}: the file has no {tag_name('PixelData')}; truncated?",
            file_of(header),
        )
    if "PixelData" in dataset:
        _check_bits(header)
        _check_length(header, len(dataset.PixelData or b""))
    return pixel_array(dataset, raw=True, correct_unused_bits=False)


def _check_bits(header: Dataset) -> None:
    """Raise StudyError unless the tags of how integers are stored agree with each other."""
    stored, high, size, signed = (
        numbers(header, keyword, 1)[0]
        for keyword in ("BitsStored", "HighBit", "BitsAllocated", "PixelRepresentation")
    )
    if signed not in (0, 1):
        raise StudyError(
            f"{tag_name('PixelRepresentation')} of {series_name(header)} is {signed:g}, "
            "expected 0 or 1",
            file_of(header),
        )
    if size not in (8, 16, 32) or stored not in range(1, int(size) + 1) or high != stored - 1:
        raise StudyError(
            f"{tag_name('BitsAllocated')}, {tag_name('BitsStored')} and {tag_name('HighBit')} of "
            f"{series_name(header)} are {size:g}, {stored:g} and {high:g}, "
            "expected 8, 16 or 32, no more than that, and one less",
            file_of(header),
        )


def _check_length(header: Dataset, given: int) -> None:
    """Raise StudyError if pixels that are not compressed are more or less than the size says.

    A byte of padding makes an odd length even; anything beyond shows that a size is wrong.
    """
    if header.file_meta.get("TransferSyntaxUID") == RLELossless:
        return
    sizes = ("Rows", "Columns", "BitsAllocated")
    expected = int(math.prod(numbers(header, key, 1)[0] for key in sizes)) // 8
    if not expected <= given <= expected + 1:
        raise StudyError(
            f"{tag_name('PixelData')} of {series_name(header)} has {given} bytes, expected "
            f"{expected} by {', '.join(tag_name(key) for key in sizes)}; truncated?",
            file_of(header),
        )


def _padding(header: Dataset, stored: np.ndarray) -> np.ndarray | None:
    """Where the scanner measured nothing, bool (Y, X); None if the series states no padding."""
    values = padding_values(header)
    if values is None or stored.dtype.kind not in "iu":
        return None
    return (stored >= values[0]) & (stored <= values[1])


def _within_bits_stored(
    header: Dataset, stored: np.ndarray, padding: np.ndarray | None
) -> np.ndarray:
    """``stored`` without what old files keep in the bits above BitsStored (overlays, no sign).

    Raises StudyError if the pixels themselves need more bits, so that BitsStored must be wrong.
    """
    bits = int(numbers(header, "BitsStored", 1)[0])
    signed = stored.dtype.kind == "i"
    lowest, highest = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    image = stored if padding is None else stored[~padding]
    if image.size == 0 or (image.min() >= lowest and image.max() <= highest):
        return stored
    overlaid = any(
        int(header.get((group, 0x0102)).value or 0) > 0
        for group in range(0x6000, 0x6020, 2)
        if (group, 0x0102) in header
    )
    unextended = signed and image.min() >= 0 and image.max() < 2**bits
    if overlaid or unextended:
        above = 8 * stored.dtype.itemsize - bits
        return (stored << above) >> above
    raise StudyError(
        f"{series_name(header)} has stored values from {image.min()} to {image.max()}, expected "
        f"{lowest} to {highest} by {tag_name('BitsStored')} and "
        f"{tag_name('PixelRepresentation')}",
        file_of(header),
    )
