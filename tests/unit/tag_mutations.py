"""Faults in one tag of a series, or in its pixels."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset

import dicom_studies as tiny
from drafts import (
    CONVERTS,
    DRUG,
    EITHER,
    ELAPSED_S,
    EXCLUDED,
    Draft,
    Verdict,
    edit,
    get_raw,
    item_of,
    parse,
    put_raw,
)


@dataclass(frozen=True)
class Needed:
    """A tag without which nothing is right; ``reason`` is how an exclusion names it."""

    keyword: str
    vr: str
    within: str = ""
    reason: str = ""


GEOMETRY = [
    Needed("RescaleSlope", "DS"),
    Needed("RescaleIntercept", "DS"),
    Needed("PixelSpacing", "DS"),
    Needed("ImageOrientationPatient", "DS"),
    Needed("ImagePositionPatient", "DS"),
    Needed("Rows", "US", reason="Rows|pixel ?data|pixels"),
    Needed("Columns", "US", reason="Columns|pixel ?data|pixels"),
    Needed("BitsAllocated", "US", reason="BitsAllocated|pixel ?data"),
    Needed("StudyInstanceUID", "UI", reason="StudyInstanceUID|no (PT|CT)|lacks 1 slice"),
    Needed("SOPClassUID", "UI", reason="SOPClassUID|no (PT|CT)|lacks 1 slice"),
    Needed("Modality", "CS", reason="Modality|no (PT|CT)|lacks 1 slice"),
    Needed("PatientID", "LO"),
]
NEEDED = {
    "CT": GEOMETRY,
    "PET": [
        *GEOMETRY,
        Needed("PatientWeight", "DS"),
        Needed("Units", "CS"),
        Needed("DecayCorrection", "CS"),
        Needed("SeriesTime", "TM"),
        Needed("SeriesDate", "DA"),
        Needed("RadionuclideTotalDose", "DS", DRUG),
        Needed("RadionuclideHalfLife", "DS", DRUG),
        Needed("RadiopharmaceuticalStartTime", "TM", DRUG),
    ],
}
# What no voxel hangs on.
IDLE = [
    *["PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"],
    *["AccessionNumber", "ReferringPhysicianName", "Manufacturer", "PositionReferenceIndicator"],
    *["Laterality", "InstanceNumber", "SeriesNumber", "SliceThickness", "SeriesDescription"],
    *["PatientComments", "InstitutionName"],
]
# What may be refused, and changes no voxel where it is not.
OPTIONAL = {
    "CT": [
        *["SOPInstanceUID", "FrameOfReferenceUID", "ImageType", "BitsStored", "HighBit"],
        *["PixelRepresentation", "SamplesPerPixel", "PhotometricInterpretation"],
        *["SpecificCharacterSet", "SeriesInstanceUID"],
    ],
}
OPTIONAL["PET"] = [
    *OPTIONAL["CT"],
    *["CorrectedImage", "SeriesType", "NumberOfSlices", "AcquisitionTime", "AcquisitionDate"],
]
# Of these, what is not there is not missed.
DISPENSABLE = [
    *["CorrectedImage", "SeriesType", "ImageType", "NumberOfSlices", "AcquisitionTime"],
    *["AcquisitionDate", "SpecificCharacterSet"],
]
NONSENSE = {
    "DS": [
        b"seventy",
        b"nan",
        b"inf",
        b"-inf",
        b"1e999",
        b"--",
        b"7\xff\xfe",
        b"1\\2\\3\\4\\5\\6\\7",
    ],
    "TM": [b"noon", b"256161", b"1\xff"],
    "DA": [b"today", b"20241350", b"2\xff\xff"],
    "CS": [b"WHAT", b"B\xffML", b"7"],
    "UI": [b"not a uid", b"1.2.3"],
    "LO": [b"someone else", b"\xff\xfe"],
    "US": [b"\0\0", b"\xff\xff", b"\x03\0\x04\0", b"\x08"],
}
GARBAGE = [b"seventy", b"x" * 5000, b"\xff\xfe\xfd", b"%n $(x) `\"'", b"\\\\\\", b"-1", b"1e999"]


def mutate_tag(draft: Draft, rng: random.Random, name: str) -> Verdict:
    if rng.random() < 0.12:
        return _break_pixels(draft, rng, name)
    if rng.random() < 0.15:
        return _swap_tags(draft, rng, name)
    if rng.random() < 0.25:
        return _change_value(draft, rng, name)
    manner = rng.choice(["removed", "emptied", "mistyped", "mistyped"])
    role = rng.choice(["needed", "idle", "optional"])
    slices = draft.series(name)
    chosen = slices if rng.random() < 0.6 else [slices[rng.randrange(1, len(slices) - 1)]]
    if role == "needed":
        tag = rng.choice(NEEDED[name])
        keyword, within, vr = tag.keyword, tag.within, tag.vr
        outcome, reason = EXCLUDED, tag.reason or keyword
    else:
        keyword = rng.choice(IDLE if role == "idle" else OPTIONAL[name])
        within, vr = "", dictionary_VR(tag_for_keyword(keyword) or 0)
        gone = manner != "mistyped" and keyword in DISPENSABLE
        outcome = CONVERTS if role == "idle" or gone else EITHER
        reason = f"{keyword}|pixel ?data|slice|no (PT|CT)|candidate"
    values = NONSENSE[vr] if role == "needed" else GARBAGE
    value = rng.choice(values)
    other_vr = ""
    if role != "needed" and vr in ("US", "SS"):
        value = rng.choice(NONSENSE["US"])
    elif rng.random() < 0.3 and vr != "UI" and keyword != "SpecificCharacterSet":
        other_vr = rng.choice(["OB", "SQ", "UT"])
        value = b"\x01\x02\x03" if other_vr == "OB" else b"seventy"
        if role == "needed" and (keyword, other_vr) == ("PatientID", "UT"):
            value = b"someone else"

    def change(dataset: Dataset) -> None:
        item = item_of(dataset, within)
        if manner == "removed":
            if keyword in item:
                del item[keyword]
        elif manner == "emptied":
            put_raw(item, keyword, b"")
        else:
            put_raw(item, keyword, value, other_vr)

    edit(draft, chosen, change)
    told = f"{keyword} of {len(chosen)} {name} slices" + f" {other_vr} {value!r}" * (
        manner == "mistyped"
    )
    return Verdict(f"tag {manner}", outcome, reason, told)


def _change_value(draft: Draft, rng: random.Random, name: str) -> Verdict:
    """Another number of the right kind: what follows from it can be told."""
    kind = "tag changed"
    slices = draft.series(name)

    def put(value: bytes, keyword: str, within: str = "", only: Sequence[str] = slices) -> None:
        edit(draft, only, lambda dataset: put_raw(item_of(dataset, within), keyword, value))

    if name == "CT":
        draw = rng.randrange(4)
        if draw == 0:
            put(b"2", "RescaleSlope")
            draft.hounsfield = 2 * (draft.hounsfield + 1024) - 1024
            return Verdict(kind, CONVERTS, "RescaleSlope")
        if draw == 1:
            put(b"-1100", "RescaleIntercept")
            draft.hounsfield = draft.hounsfield - 76
            return Verdict(kind, CONVERTS, "RescaleIntercept")
        if draw == 2:
            put(b"-27\\-19\\9000", "ImagePositionPatient")
            return Verdict(kind, EXCLUDED, "two|slices|ImagePosition")
        put(b"1\\0\\0\\0\\0.9\\0", "ImageOrientationPatient")
        return Verdict(kind, EXCLUDED, "ImageOrientationPatient")
    draw = rng.randrange(17)
    if draw == 0:
        put(b"140", "PatientWeight")
        draft.suv = draft.suv * 2
        return Verdict(kind, CONVERTS, "PatientWeight")
    if draw == 1:
        put(b"600000000", "RadionuclideTotalDose", DRUG)
        draft.suv = draft.suv / 2
        return Verdict(kind, CONVERTS, "RadionuclideTotalDose")
    if draw == 2:
        put(b"300", "RadionuclideTotalDose", DRUG)  # MBq
        return Verdict(kind, CONVERTS, "RadionuclideTotalDose")
    if draw == 3:
        z = rng.randrange(6)
        put(str(2 * float(tiny.SLOPES[z].round(6))).encode(), "RescaleSlope", "", [slices[z]])
        draft.suv[z] *= 2
        return Verdict(kind, CONVERTS, "RescaleSlope")
    if draw == 4:
        put(b"ADMIN", "DecayCorrection")
        draft.suv = draft.suv / 2
        return Verdict(kind, CONVERTS, "DecayCorrection")
    if draw == 5:
        put(b"NONE", "DecayCorrection")
        dose_bq = 300e6 * 2 ** (-ELAPSED_S / tiny.HALF_LIFE_S)
        bq_ml = tiny.STORED * tiny.SLOPES[:, None, None]
        draft.suv = bq_ml * 70e3 / dose_bq[:, None, None]
        return Verdict(kind, CONVERTS, "DecayCorrection")
    if draw == 6:
        put(b"GML", "Units")
        draft.suv = tiny.STORED * tiny.SLOPES[:, None, None]
        return Verdict(kind, CONVERTS, "Units")
    if draw == 7:
        value = rng.choice([b"PROPCPS", b"CNTS", b"CPS", b"MGMINML", b"1CMML"])
        put(value, "Units")
        return Verdict(kind, EXCLUDED, "Units")
    if draw == 8:
        value = rng.choice([b"0", b"-70", b"70000", b"1e30"])
        put(value, "PatientWeight")
        return Verdict(kind, EXCLUDED, "PatientWeight")
    if draw == 9:
        put(rng.choice([b"0", b"-3e8", b"50000"]), "RadionuclideTotalDose", DRUG)
        return Verdict(kind, EXCLUDED, "RadionuclideTotalDose")
    if draw == 10:
        put(rng.choice([b"0", b"-1", b"109.77", b"1e30"]), "RadionuclideHalfLife", DRUG)
        return Verdict(kind, EXCLUDED, "RadionuclideHalfLife")
    if draw == 11:
        put(rng.choice([b"DYNAMIC\\IMAGE", b"GATED\\IMAGE"]), "SeriesType")
        return Verdict(kind, EXCLUDED, "SeriesType")
    if draw == 12:
        put(b"DECY\\SCAT", "CorrectedImage")
        return Verdict(kind, EXCLUDED, "CorrectedImage|attenuation")
    if draw == 13:
        z = rng.randrange(6)
        put(b"71", "PatientWeight", "", [slices[z]])
        return Verdict(kind, EXCLUDED, "PatientWeight")
    if draw == 14:
        put(rng.choice([b"7", b"12"]), "NumberOfSlices")
        edit(draft, slices, lambda dataset: put_raw(dataset, "NumberOfSlices", b"\x09\0"))
        return Verdict(kind, EXCLUDED, "NumberOfSlices")
    if draw == 15:
        z = rng.randrange(1, 5)
        position = f"-20\\-15\\{100 + 3 * z + rng.choice([1.4, -1.2])}".encode()
        put(position, "ImagePositionPatient", "", [slices[z]])
        return Verdict(kind, EXCLUDED, "spaced|apart|slice")
    put(b"\x01\0", "PixelRepresentation")  # signed; no stored value uses the sign's bit
    return Verdict(kind, CONVERTS, "PixelRepresentation")


def _swap_tags(draft: Draft, rng: random.Random, name: str) -> Verdict:
    kind = "tags swapped"
    pairs: list[tuple[str, str, str, str, str]] = [
        ("PixelSpacing", "", "ImagePositionPatient", "", "PixelSpacing|ImagePosition"),
        ("ImageOrientationPatient", "", "ImagePositionPatient", "", "Image(Orient|Position)"),
        ("StudyInstanceUID", "", "SeriesInstanceUID", "", "no (PT|CT)|StudyInstanceUID"),
        ("PatientID", "", "PatientName", "", "PatientID"),
        ("Modality", "", "PhotometricInterpretation", "", "no (PT|CT)|Modality"),
        ("Rows", "", "BitsAllocated", "", "Rows|BitsAllocated|pixel ?data"),
    ]
    if name == "PET":
        pairs += [
            ("PatientWeight", "", "RadionuclideTotalDose", DRUG, "PatientWeight|Dose"),
            ("RadionuclideHalfLife", DRUG, "RadionuclideTotalDose", DRUG, "HalfLife|TotalDose"),
            ("SeriesTime", "", "SeriesDate", "", "SeriesTime|SeriesDate"),
            ("SeriesTime", "", "RadiopharmaceuticalStartTime", DRUG, "injection|StartTime"),
            ("Units", "", "DecayCorrection", "", "Units|DecayCorrection"),
        ]
    draw = rng.randrange(len(pairs) + 3)
    if draw == len(pairs) and name == "PET":
        # 8 rows of 10 are as many voxels as 10 rows of 8; nothing in the file tells them apart.
        edit(draft, draft.pet, lambda dataset: _swap(dataset, "Rows", "", "Columns", ""))
        draft.suv = draft.suv.reshape(6, 10, 8)
        draft.unknown |= {"ct", "lesions"}
        return Verdict(kind, EITHER, "Rows|pixel|slices|label|SEG|contour|grid")
    if draw == len(pairs) + 1 and name == "PET":
        edit(draft, draft.pet, lambda d: _swap(d, "PatientWeight", "", "SliceThickness", ""))
        draft.suv = draft.suv * 3 / 70
        return Verdict(kind, EITHER, "PatientWeight|SliceThickness")
    if draw >= len(pairs):
        keyword = rng.choice(["Modality", "SOPClassUID", "PatientID", "SeriesInstanceUID"])
        pet = get_raw(parse(draft.files[draft.pet[0]]), keyword)
        ct = get_raw(parse(draft.files[draft.ct[0]]), keyword)
        edit(draft, draft.pet, lambda dataset: put_raw(dataset, keyword, ct))
        edit(draft, draft.ct, lambda dataset: put_raw(dataset, keyword, pet))
        if keyword in ("PatientID", "SeriesInstanceUID"):
            if keyword == "SeriesInstanceUID":
                draft.unknown |= {"lesions"} if draft.label_kind == "rtstruct" else set()
            return Verdict(kind, EITHER, "contour|SeriesInstanceUID")
        return Verdict(kind, EXCLUDED, "no (PT|CT)|Modality|SOPClass")
    one, within_one, other, within_other, reason = pairs[draw]
    edit(draft, draft.series(name), lambda d: _swap(d, one, within_one, other, within_other))
    return Verdict(kind, EXCLUDED, reason)


def _swap(dataset: Dataset, one: str, within_one: str, other: str, within_other: str) -> None:
    first, second = item_of(dataset, within_one), item_of(dataset, within_other)
    value_one, value_other = get_raw(first, one), get_raw(second, other)
    put_raw(first, one, value_other)
    put_raw(second, other, value_one)


def _break_pixels(draft: Draft, rng: random.Random, name: str) -> Verdict:
    kind, reason = (
        "pixel data broken",
        "pixel ?data|truncated|TransferS|BitsAlloc|Photometric",
    )
    slices = draft.series(name)
    chosen = slices if rng.random() < 0.4 else [rng.choice(slices)]
    draw = rng.randrange(7)
    length = len(get_raw(parse(draft.files[chosen[0]]), "PixelData"))
    keep = rng.randrange(length // 2) * 2
    outcome = EXCLUDED
    if draw == 0:  # cut, and the length says so

        def change(dataset: Dataset) -> None:
            put_raw(dataset, "PixelData", get_raw(dataset, "PixelData")[:keep], "OW")
    elif draw == 1:

        def change(dataset: Dataset) -> None:
            del dataset["PixelData"]
    elif draw == 2:  # more than is needed

        def change(dataset: Dataset) -> None:
            put_raw(dataset, "PixelData", get_raw(dataset, "PixelData") + b"\0" * 64, "OW")

        outcome = EITHER
    elif draw == 3:
        bits = rng.choice([b"\x08\0", b"\x20\0", b"\x0c\0", b"\x01\0", b"\0\0"])

        def change(dataset: Dataset) -> None:
            put_raw(dataset, "BitsAllocated", bits)
    elif draw == 4:

        def change(dataset: Dataset) -> None:
            put_raw(dataset, "SamplesPerPixel", b"\x03\0")
            put_raw(dataset, "PhotometricInterpretation", b"RGB")
    elif draw == 5:
        # The length without the bytes: the file ends within its last element.
        for each in chosen:
            draft.files[each] = draft.files[each][: -rng.randrange(1, length)]
        return Verdict(kind, EXCLUDED, reason)
    else:  # a wrong length in the middle of nowhere
        for each in chosen:
            content = draft.files[each]
            at = content.rindex(b"\xe0\x7f\x10\0OW") + 8
            wrong = rng.choice([0xFFFFFFFE, 0xFFFFFFFF, length * 2, 0x7FFFFFF0])
            draft.files[each] = content[:at] + struct.pack("<I", wrong) + content[at + 4 :]
        return Verdict(kind, EITHER, reason, f"length {wrong:x} of {len(chosen)} {name} slices")
    edit(draft, chosen, change)
    return Verdict(kind, outcome, reason, f"{draw} of {len(chosen)} {name} slices")
