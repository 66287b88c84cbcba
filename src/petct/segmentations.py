"""The frames of a DICOM segmentation: which voxels of which segment, and where they lie.

Frames are read one by one and placed by their own plane positions, so that segments may be
spread over frames in any order, and empty frames may be missing.
Sources: DICOM PS3.3 C.8.20 (Segmentation), C.7.6.16.2 (functional groups: Pixel Measures, Plane
Position, Plane Orientation), C.8.20.2.3 (SegmentationType BINARY, FRACTIONAL and LABELMAP).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels import iter_pixels
from pydicom.uid import RLELossless

from petct.dicom_series import axes_of, numbers, read_dataset, tag_name, text
from petct.errors import StudyError
from petct.frame_decoder import DecodingError, decode_frames

DECODING_LIMIT_S = 300.0
FEW_GAPS = 3
SAME_SPACING = 0.02  # relative: distances of planes closer than this are one

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Segment:
    """``names``: what its label and description say of it, for the eyes of a pattern alone."""

    number: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class Frame:
    """A mask on a plane: ``pixels`` bool (Y, X), the first of them centred at ``position_mm``.

    ``axes``: rows of a 3 x 3 array, the unit vectors along x (columns), y (rows) and the normal.
    ``spacing_xyz_mm``: the last is the distance of the planes, 0 if nothing tells.
    """

    pixels: np.ndarray
    position_mm: np.ndarray
    axes: np.ndarray
    spacing_xyz_mm: Vector


class Segmentation:
    """A SEG file: its segments, and the frames of each.

    Raises StudyError for a file that is damaged or contradicts itself.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            self._open()
        except StudyError as error:
            raise StudyError(f"SEG: {error}", str(file)) from error
        except Exception as error:  # a damaged object may fail anywhere in the parser
            raise _unreadable(file, error) from error

    def frames(self, segment: int) -> Iterator[Frame]:
        """The frames with any voxel of a segment, in the order of the file."""
        try:
            yield from self._frames(segment)
        except StudyError as error:
            raise StudyError(f"SEG: {error}", str(self.file)) from error
        except Exception as error:  # decoders fail in their own ways
            raise _unreadable(self.file, error) from error

    def _open(self) -> None:
        dataset = read_dataset(self.file)
        self._dataset = dataset
        if "SegmentSequence" not in dataset:
            raise StudyError(f"{tag_name('SegmentSequence')} is missing; truncated?")
        self.type = text(dataset, "SegmentationType") or "BINARY"
        if self.type not in ("BINARY", "FRACTIONAL", "LABELMAP"):
            raise StudyError(
                f"{tag_name('SegmentationType')} is none of BINARY, FRACTIONAL and LABELMAP"
            )
        described = [_segment(item, self.type) for item in dataset.SegmentSequence]
        self.segments = tuple(s for s in described if s.number != self._background())
        known = [segment.number for segment in described]
        if len(set(known)) < len(known):
            raise StudyError(f"{tag_name('SegmentSequence')} describes a segment twice: {known}")
        self._count_frames()
        self._numbers = self._segment_numbers()
        if self.type != "LABELMAP" and (unknown := sorted(set(self._numbers) - set(known))):
            raise StudyError(
                f"frames of segment number(s) {unknown}, which {tag_name('SegmentSequence')} "
                "does not describe"
            )
        self._distances_mm: dict[int, float] = {}

    def _background(self) -> int | None:
        """The pixel value of a label map that is no segment, described or not."""
        if self.type != "LABELMAP":
            return None
        padding = self._dataset.get("PixelPaddingValue")
        return 0 if padding is None else int(padding)

    def _count_frames(self) -> None:
        """Raise StudyError unless the tags and the pixels tell the same number of frames."""
        dataset = self._dataset
        items = len(dataset.get("PerFrameFunctionalGroupsSequence") or [])
        stated = text(dataset, "NumberOfFrames")
        self.empty = not items and not int(stated or 0) and not dataset.get("PixelData")
        if self.empty:
            return
        frames = numbers(dataset, "NumberOfFrames", 1)[0]
        if frames != items:
            raise StudyError(
                f"{tag_name('NumberOfFrames')} is {frames:g}, but "
                f"{tag_name('PerFrameFunctionalGroupsSequence')} has {items} items"
            )
        if "PixelData" not in dataset:
            raise StudyError(f"{tag_name('PixelData')} is missing; truncated?")
        bits = int(numbers(dataset, "BitsAllocated", 1)[0])
        if self.type == "BINARY" and bits != 1:
            raise StudyError(f"{tag_name('BitsAllocated')} is {bits}, expected 1 for BINARY")
        self._shape = (
            int(numbers(dataset, "Rows", 1)[0]),
            int(numbers(dataset, "Columns", 1)[0]),
        )
        expected = (items * self._shape[0] * self._shape[1] * bits + 7) // 8
        given = len(dataset.PixelData or b"")
        if not self._compressed() and not expected <= given <= expected + 1:
            raise StudyError(
                f"{tag_name('PixelData')} has {given} bytes, expected {expected} for "
                f"{items} frames by {tag_name('NumberOfFrames')}"
            )

    def _compressed(self) -> bool:
        syntax = self._dataset.file_meta.TransferSyntaxUID
        try:
            return bool(syntax.is_encapsulated)
        except ValueError as error:
            raise StudyError(f"{tag_name('TransferSyntaxUID')} is no transfer syntax") from error

    def _segment_numbers(self) -> list[int]:
        if self.empty or self.type == "LABELMAP":
            return []
        keyword = "ReferencedSegmentNumber"
        return [
            int(self._numbers_of(i, "SegmentIdentificationSequence", keyword, 1)[0])
            for i in range(len(self._dataset.PerFrameFunctionalGroupsSequence))
        ]

    def _frames(self, segment: int) -> Iterator[Frame]:
        if self.empty:
            return
        every = range(len(self._dataset.PerFrameFunctionalGroupsSequence))
        label_map = self.type == "LABELMAP"
        wanted = [i for i in every if label_map or self._numbers[i] == segment]
        known = [s.number for s in self.segments] + [self._background()]
        for i, pixels in zip(wanted, self._pixels(wanted), strict=True):
            if pixels.shape != self._shape:
                raise StudyError(f"frame {i + 1} is {pixels.shape}, expected {self._shape}")
            if label_map:
                found = set(np.unique(pixels).tolist())
                if unknown := sorted(found - set(known)):
                    raise StudyError(
                        f"frame {i + 1} has segment number(s) {unknown}, which "
                        f"{tag_name('SegmentSequence')} does not describe"
                    )
                mask = pixels == segment
            elif self.type == "FRACTIONAL":
                (whole,) = numbers(self._dataset, "MaximumFractionalValue", 1)
                mask = 2.0 * pixels >= whole
            else:
                mask = pixels != 0
            if mask.any():
                yield self._frame(i, mask)

    def _pixels(self, wanted: Sequence[int]) -> Iterator[np.ndarray]:
        """The stored pixels of some frames, each (Y, X)."""
        syntax = self._dataset.file_meta.TransferSyntaxUID
        if self._compressed() and syntax != RLELossless:
            (frames,) = decode_frames([str(self.file)], DECODING_LIMIT_S)
            frames = frames.reshape(-1, *frames.shape[-2:])
            yield from (frames[i] for i in wanted)
        elif wanted:
            yield from iter_pixels(self._dataset, indices=list(wanted), raw=True)

    def _frame(self, i: int, mask: np.ndarray) -> Frame:
        axes = self._axes(i)
        y, x = self._numbers_of(i, "PixelMeasuresSequence", "PixelSpacing", 2)
        if min(x, y) <= 0:
            raise StudyError(f"{tag_name('PixelSpacing')} is {[y, x]}, expected more than 0")
        return Frame(mask, self._position(i), axes, (x, y, self._distance_mm(i, axes)))

    def _position(self, i: int) -> np.ndarray:
        return np.array(self._numbers_of(i, "PlanePositionSequence", "ImagePositionPatient", 3))

    def _axes(self, i: int) -> np.ndarray:
        keyword = "ImageOrientationPatient"
        cosines = self._numbers_of(i, "PlaneOrientationSequence", keyword, 6)
        axes = axes_of(cosines)
        if axes is None:
            raise StudyError(
                f"{tag_name(keyword)} is {list(cosines)}, expected two perpendicular unit vectors"
            )
        return axes

    def _distance_mm(self, i: int, axes: np.ndarray) -> float:
        """The distance of the planes that the frame is one of: as stated, if the frames agree.

        Frames without voxels may be missing, so that those there are may lie further apart.
        """
        key = hash(tuple(np.round(axes[2], 4)))
        if key not in self._distances_mm:
            count = len(self._dataset.PerFrameFunctionalGroupsSequence)
            heights = np.sort([self._position(k) @ axes[2] for k in range(count)])
            gaps = np.diff(heights)
            gaps = gaps[gaps > 0.01]
            nearest = float(gaps.min()) if gaps.size else 0.0
            stated = self._measure(i, "SpacingBetweenSlices")
            thick = self._measure(i, "SliceThickness")
            if stated and (not nearest or _is_multiple(nearest, stated)):
                found = stated
            elif thick and gaps.size < FEW_GAPS and (not nearest or _is_multiple(nearest, thick)):
                found = thick
            else:  # many planes tell better than a thickness, which need not be their distance
                found = nearest
            self._distances_mm[key] = found
        return self._distances_mm[key]

    def _items(self, i: int, sequence: str) -> list[Dataset]:
        """The functional group of a frame: its own, or what all frames share."""
        shared = self._dataset.get("SharedFunctionalGroupsSequence") or []
        for group in (self._dataset.PerFrameFunctionalGroupsSequence[i], *shared):
            if items := group.get(sequence):
                return list(items)
        return []

    def _measure(self, i: int, keyword: str) -> float:
        """A number of the Pixel Measures, 0 if it is not stated."""
        items = self._items(i, "PixelMeasuresSequence")
        if not items or items[0].get(keyword) is None:
            return 0.0
        return max(0.0, self._numbers_of(i, "PixelMeasuresSequence", keyword, 1)[0])

    def _numbers_of(self, i: int, sequence: str, keyword: str, count: int) -> tuple[float, ...]:
        where = f"{tag_name(keyword)} of frame {i + 1}"
        items = self._items(i, sequence)
        value: Any = items[0].get(keyword) if items else None
        if value is None or value == "":
            raise StudyError(f"{where} is missing")
        several = hasattr(value, "__len__") and not isinstance(value, str)
        found = [float(v) for v in (value if several else [value])]
        if len(found) != count or not np.all(np.isfinite(found)):
            raise StudyError(f"{where} is {found}, expected {count} finite number(s)")
        return tuple(found)


def _segment(item: Dataset, kind: str) -> Segment:
    number = item.get("SegmentNumber")
    if number is None or int(number) < (0 if kind == "LABELMAP" else 1):
        raise StudyError(f"{tag_name('SegmentNumber')} of a segment is missing or below 1")
    named = (str(item.get(k, "") or "") for k in ("SegmentLabel", "SegmentDescription"))
    return Segment(int(number), tuple(named))


def _is_multiple(length: float, unit: float) -> bool:
    ratio = length / unit
    return round(ratio) >= 1 and abs(ratio / round(ratio) - 1) < SAME_SPACING


def _unreadable(file: Path, error: Exception) -> StudyError:
    reason = str(error) if isinstance(error, DecodingError) else type(error).__name__
    return StudyError(f"SEG is not readable ({reason})", str(file))
