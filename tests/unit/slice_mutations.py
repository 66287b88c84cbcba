"""Faults of whole files of a series: gone, doubled, cut, renamed, recoded."""

from __future__ import annotations

import random
import re
import struct
from pathlib import Path

from pydicom import uid
from pydicom.dataset import Dataset

from drafts import (
    CONVERTS,
    EITHER,
    EXCLUDED,
    Draft,
    Verdict,
    broken,
    edit,
    get_raw,
    parse,
    put_raw,
    serialise,
)


def mutate_slices(draft: Draft, rng: random.Random, name: str) -> Verdict:
    slices = draft.series(name)
    draw = rng.choice(
        [
            *[_remove_slices, _double_slice, _double_slice, _shuffle_slices, _truncate_slice],
            *[_truncate_slice, _rename_slices, _lie_about_syntax, _flip_bytes, _recode_slices],
        ]
    )
    return draw(draft, rng, name, slices)


def _lost_slice(draft: Draft, name: str, z: int) -> tuple[str, str]:
    """Without slice ``z``: a gap, or a shorter series. Only the CT may be shorter, and say so."""
    slices = draft.series(name)
    at_end = z in (0, len(slices) - 1)
    outcome = EITHER if name == "CT" and at_end else EXCLUDED
    return outcome, "slice|NumberOfSlices|gap|lacks|truncated|damaged|cannot be read"


def _remove_slices(draft: Draft, rng: random.Random, name: str, slices: list[str]) -> Verdict:
    kind = "slices removed"
    if rng.random() < 0.2:
        for each in slices:
            draft.files.pop(each)
        return Verdict(kind, EXCLUDED, f"no {'PT' if name == 'PET' else 'CT'} series")
    if rng.random() < 0.2:
        kept = rng.randrange(len(slices))
        for each in slices[:kept] + slices[kept + 1 :]:
            draft.files.pop(each)
        return Verdict(kind, EXCLUDED, "one slice|NumberOfSlices")
    z = rng.randrange(len(slices))
    outcome, reason = _lost_slice(draft, name, z)
    draft.files.pop(slices[z])
    return Verdict(kind, outcome, reason)


def _double_slice(draft: Draft, rng: random.Random, name: str, slices: list[str]) -> Verdict:
    kind, reason = "slice doubled", "two |copies|dynamic|gated|SOPInstanceUID"
    original = rng.choice(slices)
    copy = f"{original} copy"
    draft.files[copy] = draft.files[original]
    draw = rng.randrange(4)
    if draw == 0:
        return Verdict(kind, CONVERTS, reason)
    instance = uid.generate_uid(entropy_srcs=[str(rng.random())]).encode()
    if draw in (1, 3):
        edit(draft, [copy], lambda dataset: put_raw(dataset, "SOPInstanceUID", instance))
    if draw == 1:
        return Verdict(kind, CONVERTS, reason)

    def other_pixels(dataset: Dataset) -> None:
        pixels = get_raw(dataset, "PixelData")
        put_raw(dataset, "PixelData", pixels[2:] + pixels[:2], "OW")

    edit(draft, [copy], other_pixels)
    return Verdict(kind, EXCLUDED, reason)


def _shuffle_slices(draft: Draft, rng: random.Random, name: str, slices: list[str]) -> Verdict:
    kind = "slices shuffled"
    draw = rng.randrange(4)
    order = rng.sample(range(len(slices)), len(slices))
    if draw == 0:  # who is in which file
        contents = [draft.files[slices[z]] for z in order]
        draft.files.update(zip(slices, contents, strict=True))
        names = [slices[order.index(z)] for z in range(len(slices))]
        slices[:] = names
        return Verdict(kind, CONVERTS)
    if draw == 1:
        for z, each in enumerate(slices):
            number = str(order[z] + 1).encode()
            edit(draft, [each], lambda d, number=number: put_raw(d, "InstanceNumber", number))  # type: ignore[misc]
        return Verdict(kind, CONVERTS)
    if draw == 2:  # one instance's identifier for all: what a poor anonymiser leaves
        edit(draft, slices, lambda dataset: put_raw(dataset, "SOPInstanceUID", b"1.2.3.4"))
        return Verdict(kind, EITHER, "SOPInstanceUID|slice")
    positions = [get_raw(parse(draft.files[each]), "ImagePositionPatient") for each in slices]
    for z, each in enumerate(slices):
        there = positions[order[z]]
        edit(draft, [each], lambda d, p=there: put_raw(d, "ImagePositionPatient", p))  # type: ignore[misc]
    if name == "PET":
        draft.suv = draft.suv[[order.index(z) for z in range(6)]]
    else:
        draft.unknown.add("ct")
    return Verdict(kind, CONVERTS)


def _truncate_slice(draft: Draft, rng: random.Random, name: str, slices: list[str]) -> Verdict:
    z = rng.randrange(len(slices))
    content = draft.files[slices[z]]
    keep = rng.choice([0, rng.randrange(140), rng.randrange(len(content)), len(content) - 1])
    draft.files[slices[z]] = content[:keep]
    outcome, reason = _lost_slice(draft, name, z)
    if keep >= 200:
        outcome = EXCLUDED
    return Verdict("file truncated", outcome, f"{reason}|{re.escape(slices[z])}")


def _rename_slices(draft: Draft, rng: random.Random, name: str, slices: list[str]) -> Verdict:
    kind = "file renamed"
    z = rng.randrange(len(slices))
    draw = rng.randrange(4)
    if draw == 0:
        for number, each in enumerate(list(slices)):
            draft.rename(each, f"{each}{rng.choice(['.dcm', '.IMA', '.txt', '.nii.gz', '.jpg'])}")
            assert number < 12
        return Verdict(kind, CONVERTS)
    if draw == 1:
        odd = ["ü é 肺", "two  spaces ", "new\nline", 'it\'s "quoted"', "-rf", "$(x)", "%d", "a;b"]
        for each, to in zip(list(slices), rng.sample(odd, 6), strict=False):
            draft.rename(each, f"{each} {to}")
        return Verdict(kind, CONVERTS)
    if draw == 2:
        folder = "/".join(rng.choice(["ü", "a b", "deep", "x'y", 'q"', "1"]) for _ in range(9))
        for each in list(slices):
            draft.rename(each, f"{folder}/{each}")
        return Verdict(kind, CONVERTS)
    path = Path(slices[z])
    hidden = str(path.with_name(rng.choice([f".{path.name}", f"._{path.name}"])))
    outcome, reason = _lost_slice(draft, name, z)
    draft.rename(slices[z], hidden)
    return Verdict(kind, outcome, reason)


def _lie_about_syntax(draft: Draft, rng: random.Random, name: str, slices: list[str]) -> Verdict:
    chosen = slices if rng.random() < 0.5 else [rng.choice(slices)]
    lie = rng.choice(
        [
            *[uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.JPEGBaseline8Bit],
            *[uid.RLELossless, uid.DeflatedExplicitVRLittleEndian, uid.JPEG2000Lossless],
            *[uid.MPEG2MPML, uid.MediaStorageDirectoryStorage, "1.2.3", "garbage", ""],
        ]
    )
    for each in chosen:
        content = draft.files[each]
        if content[128:132] != b"DICM":
            continue
        old = b"\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\x00"
        assert old in content
        value = str(lie).encode()
        value += b"\0" * (len(value) % 2)
        new = old[:6] + struct.pack("<H", len(value)) + value
        (length,) = struct.unpack("<I", content[140:144])
        content = content.replace(old, new)
        length += len(new) - len(old)
        draft.files[each] = content[:140] + struct.pack("<I", length) + content[144:]
    return Verdict("transfer syntax lies", EITHER, ".", f"{lie} of {len(chosen)} {name} slices")


def _recode_slices(draft: Draft, rng: random.Random, name: str, slices: list[str]) -> Verdict:
    """Other ways to write the same values."""
    if any(draft.files[each][128:132] != b"DICM" or broken(draft, each) for each in slices):
        return _rename_slices(draft, rng, name, slices)
    syntax = rng.choice(
        [uid.ImplicitVRLittleEndian, uid.DeflatedExplicitVRLittleEndian, uid.RLELossless]
    )
    for each in slices:
        dataset = parse(draft.files[each])
        try:
            if syntax == uid.RLELossless:
                dataset.compress(syntax, generate_instance_uid=False)
            dataset.file_meta.TransferSyntaxUID = syntax
            draft.files[each] = serialise(dataset, bare=False)
        except Exception:  # what an earlier mutation broke cannot be written otherwise
            return Verdict("slices recoded", EITHER, ".")
    return Verdict("slices recoded", CONVERTS, detail=str(syntax))


def _flip_bytes(draft: Draft, rng: random.Random, name: str, slices: list[str]) -> Verdict:
    """Bits that rot in a header: anything may come of it, but no crash and no silence."""
    z = rng.randrange(len(slices))
    content = bytearray(draft.files[slices[z]])
    for _ in range(rng.randrange(1, 6)):
        content[rng.randrange(len(content))] = rng.randrange(256)
    draft.files[slices[z]] = bytes(content)
    draft.unknown |= {"suv", "ct", "lesions"}
    return Verdict("bytes flipped", EITHER, ".")
