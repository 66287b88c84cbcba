"""Faults of a SEG or an RTSTRUCT."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

import numpy as np
from pydicom import uid
from pydicom.dataset import Dataset

import dicom_studies as tiny
from drafts import (
    CONVERTS,
    EITHER,
    EXCLUDED,
    Draft,
    Verdict,
    edit,
    get_raw,
    parse,
    put_raw,
    serialise,
)


def mutate_label(draft: Draft, rng: random.Random) -> Verdict:
    assert draft.label is not None
    draw = rng.randrange(6)
    if draw == 0:
        content = draft.files[draft.label]
        keep = rng.choice([0, rng.randrange(140), rng.randrange(len(content)), len(content) - 2])
        draft.files[draft.label] = content[:keep]
        return Verdict("label truncated", EXCLUDED, f"label|SEG|RTSTRUCT|{re.escape(draft.label)}")
    if draw == 1:
        return _break_references(draft, rng)
    if draw in (2, 3):
        return _break_any_tag(draft, rng)
    if draft.label_kind == "seg":
        return _break_seg(draft, rng)
    return _break_rtstruct(draft, rng)


def _break_any_tag(draft: Draft, rng: random.Random) -> Verdict:
    """A tag at any depth removed, emptied or mistyped: no other lesion may come of it."""
    assert draft.label is not None
    dataset = parse(draft.files[draft.label])
    items = _every_item(dataset)
    item = rng.choice(items)
    element = rng.choice(list(item))
    manner = rng.choice(["removed", "emptied", "mistyped"])
    told = f"{element.keyword} {element.tag} {manner}"
    if manner == "removed":
        del item[element.tag]
    elif manner == "emptied":
        put_raw(item, element.keyword, b"", "OB" if element.VR == "SQ" else element.VR)
    else:
        put_raw(item, element.keyword, b"seventy", rng.choice([element.VR, "OB", "UT"]))
    # Without a name it is no lesion's, and a region without contours is an empty one.
    if element.keyword in ("ROIName", "ContourSequence"):
        draft.lesions = np.zeros(tiny.PET_SHAPE, np.uint8)
    bare = draft.files[draft.label][128:132] != b"DICM"
    draft.files[draft.label] = serialise(dataset, bare)
    return Verdict("label tag broken", EITHER, ".", told)


def _every_item(dataset: Dataset) -> list[Dataset]:
    found = [dataset]
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                found += _every_item(item)
    return found


def _break_references(draft: Draft, rng: random.Random) -> Verdict:
    kind = "label references broken"
    assert draft.label is not None
    keywords = ["SeriesInstanceUID", "ReferencedSOPInstanceUID", "FrameOfReferenceUID"]
    gone = rng.sample(keywords, rng.randrange(1, 4))
    broken = uid.generate_uid(entropy_srcs=["broken"])

    def change(dataset: Dataset) -> None:
        for item in _every_item(dataset)[1:] if "FrameOf" not in gone[0] else _every_item(dataset):
            for keyword in gone:
                if keyword in item and not (item is dataset and keyword == "SeriesInstanceUID"):
                    setattr(item, keyword, broken)
        if "FrameOfReferenceUID" in gone:
            dataset.FrameOfReferenceUID = broken

    edit(draft, [draft.label], change)
    linked = set(keywords) - set(gone)
    if draft.label_kind == "rtstruct":
        linked -= {"ReferencedSOPInstanceUID"}  # its contours name no image
    reason = "refers|reference|label"
    return Verdict(kind, CONVERTS if linked else EXCLUDED, reason, " ".join(gone))


def _break_seg(draft: Draft, rng: random.Random) -> Verdict:
    kind, reason = "label broken", "SEG|segment|label|frame"
    assert draft.label is not None
    draw = rng.randrange(9)
    unknown = False
    outcome = EXCLUDED

    def remove(keyword: str) -> Callable[[Dataset], None]:
        return lambda dataset: dataset.__delitem__(keyword)

    change: Callable[[Dataset], None]
    if draw == 0:
        keyword = rng.choice(["SegmentSequence", "PerFrameFunctionalGroupsSequence", "PixelData"])
        change = remove(keyword)
    elif draw == 1:

        def change(dataset: Dataset) -> None:
            _reorder_frames(dataset, rng)

        outcome = CONVERTS
    elif draw == 2:

        def change(dataset: Dataset) -> None:
            put_raw(dataset, "PixelData", get_raw(dataset, "PixelData")[:4], "OB")
    elif draw == 3:

        def change(dataset: Dataset) -> None:
            put_raw(dataset, "NumberOfFrames", rng.choice([b"1", b"40", b"0", b"two", b""]))

        # One frame fewer than there are is a lesion cut off.
    elif draw == 4:

        def change(dataset: Dataset) -> None:
            frame = dataset.PerFrameFunctionalGroupsSequence[0]
            position = frame.PlanePositionSequence[0]
            put_raw(
                position, "ImagePositionPatient", rng.choice([b"a\\b\\c", b"1", b"nan\\0\\0", b""])
            )
    elif draw == 5:

        def change(dataset: Dataset) -> None:
            for item in dataset.SegmentSequence:
                put_raw(item, "SegmentLabel", rng.choice([b"", b"Liver", b"\xff\xfe", b"x" * 300]))

        outcome = CONVERTS  # the only segment is the lesion, whatever it is called
    elif draw == 6:

        def change(dataset: Dataset) -> None:
            for item in _every_item(dataset):
                if "ReferencedSegmentNumber" in item:
                    put_raw(item, "ReferencedSegmentNumber", b"\x07\0")

    elif draw == 7:

        def change(dataset: Dataset) -> None:
            dataset.Rows, dataset.Columns = dataset.Columns, dataset.Rows

        outcome, unknown = EITHER, True
    else:

        def change(dataset: Dataset) -> None:
            put_raw(dataset, "SOPClassUID", b"1.2.840.10008.5.1.4.1.1.66.9")
            if hasattr(dataset, "file_meta"):
                dataset.file_meta.MediaStorageSOPClassUID = uid.UID("1.2.840.10008.5.1.4.1.1.66.9")

    edit(draft, [draft.label], change)
    if unknown:
        draft.unknown.add("lesions")
    return Verdict(kind, outcome, reason, f"SEG {draw}")


def _reorder_frames(dataset: Dataset, rng: random.Random) -> None:
    """Frames in another order, each with its own position and pixels."""
    count = int(dataset.NumberOfFrames)
    order = rng.sample(range(count), count)
    bits = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little")
    size = dataset.Rows * dataset.Columns
    frames = bits[: count * size].reshape(count, size)
    packed = np.packbits(frames[order].ravel(), bitorder="little").tobytes()
    items = list(dataset.PerFrameFunctionalGroupsSequence)
    dataset.PerFrameFunctionalGroupsSequence = [items[n] for n in order]
    dataset.PixelData = packed + b"\0" * (len(packed) % 2)


def _break_rtstruct(draft: Draft, rng: random.Random) -> Verdict:
    kind, reason = "label broken", "RTSTRUCT|ROI|[Cc]ontour|label|StructureSet"
    assert draft.label is not None
    draw = rng.randrange(9)
    outcome = EXCLUDED

    def contours(dataset: Dataset) -> list[Dataset]:
        return list(dataset.ROIContourSequence[0].ContourSequence)

    change: Callable[[Dataset], None]
    if draw == 0:
        keyword = rng.choice(["StructureSetROISequence", "ROIContourSequence"])

        def change(dataset: Dataset) -> None:
            del dataset[keyword]
    elif draw == 1:  # off the grid

        def change(dataset: Dataset) -> None:
            for item in contours(dataset):
                points = np.reshape([float(v) for v in item.ContourData], (-1, 3))
                points[:, 2] += rng.choice([500.0, -500.0, 1e6])
                item.ContourData = [f"{v:.8g}" for v in points.ravel()]
    elif draw == 2:  # across the slices

        def change(dataset: Dataset) -> None:
            item = contours(dataset)[0]
            values = [float(v) for v in item.ContourData]
            values[2] += 2.0
            item.ContourData = [f"{v:.8g}" for v in values]
    elif draw == 3:
        value = rng.choice(
            [b"1\\2", b"a\\b\\c", b"", b"nan\\nan\\nan", b"1e30\\1\\inf", b"1\\2\\3\\4"]
        )

        def change(dataset: Dataset) -> None:
            put_raw(contours(dataset)[0], "ContourData", value)
    elif draw == 4:

        def change(dataset: Dataset) -> None:
            put_raw(
                contours(dataset)[0], "ContourGeometricType", rng.choice([b"CIRCLE", b"", b"\xff"])
            )
    elif draw == 5:

        def change(dataset: Dataset) -> None:
            dataset.ROIContourSequence[0].ReferencedROINumber = 44
    elif draw == 6:

        def change(dataset: Dataset) -> None:
            item = contours(dataset)[0]
            put_raw(item, "NumberOfContourPoints", rng.choice([b"4000", b"0", b"many"]))

        outcome = EITHER
    elif draw == 7:

        def change(dataset: Dataset) -> None:
            dataset.ROIContourSequence[0].ContourSequence = contours(dataset)[::-1]

        outcome = CONVERTS
    else:  # no ROI is called a lesion any more

        def change(dataset: Dataset) -> None:
            name = rng.choice([b"Liver", b"", b"\xff\xfe"])
            put_raw(dataset.StructureSetROISequence[0], "ROIName", name)

        outcome = EITHER
        draft.lesions = np.zeros(tiny.PET_SHAPE, np.uint8)
    edit(draft, [draft.label], change)
    return Verdict(kind, outcome, reason, f"RTSTRUCT {draw}")
