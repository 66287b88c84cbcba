"""Which PET and which CT series of a study are used, by stated rules.

Sources: DICOM PS3.3 C.8.9.1.1.4 (PET Series Type), C.8.9.1 (Corrected Image), C.7.4.1 (Frame of
Reference).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from pydicom import uid

from petct.dicom_series import tag_name
from petct.errors import StudyError
from petct.file_tree import Header

SERIES_CLASSES = {
    "PT": {uid.PositronEmissionTomographyImageStorage, uid.EnhancedPETImageStorage},
    "CT": {uid.CTImageStorage, uid.EnhancedCTImageStorage},
}
MOVING = ("DYNAMIC", "GATED")
TOLERANCE = 0.01  # of a length: series whose lengths differ by less are alike

Series = Sequence[Header]
ByUid = Mapping[str, Series]


@dataclass(frozen=True)
class Choice:
    """The headers of the series that is used, and what was decided on the way."""

    series: Series
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Rule:
    """The highest ``score`` wins; what is lower by more than ``tolerance`` of it ``loses``."""

    score: Callable[[Series], float]
    loses: str
    tolerance: float = 0.0


def choose_pet(headers: Series, referred: Collection[str], accept: Collection[str]) -> Choice:
    """The PET series of a study, and a warning for each that was not taken.

    Left out: dynamic and gated series, projections, and what is not corrected for attenuation
    (unless ``accept`` has "uncorrected"). Of the rest: the series that the label refers to
    (``referred``: series UIDs), the corrected, SeriesType WHOLE BODY, the most slices, the longest,
    the lowest SeriesNumber, the first UID. Raises StudyError with each series' reason if none is
    usable.
    """
    candidates, warnings, faults = _volumes(headers, "PT")
    for series, images in list(candidates.items()):
        if fault := _pet_fault(images, accept):
            faults[series] = fault
            del candidates[series]
    if not candidates:
        _raise_none(headers, "PT", faults)
    rules = [
        Rule(lambda s: s[0].series in referred, "a label refers to the series taken"),
        Rule(lambda s: not _uncorrected(s), "it is not corrected for attenuation"),
        Rule(_is_whole_body, f"its {tag_name('SeriesType')} is not WHOLE BODY"),
        Rule(_slices, "it has fewer slices"),
        Rule(_length_mm, "it is shorter", TOLERANCE),
    ]
    left_out = [f"PT series {series} is left out: {faults[series]}" for series in sorted(faults)]
    taken, over = _best(candidates, rules, "PT")
    return Choice(candidates[taken], (*warnings.get(taken, ()), *left_out, *over))


def choose_ct(headers: Series, pet: Series, referred: Collection[str]) -> Choice:
    """The CT series of a study, and a warning for each that was not taken.

    Localizers and projections are left out. Of the rest: the series that the label refers to, the
    PET's frame of reference, the greatest overlap with the PET along z, the most slices, the
    lowest SeriesNumber, the first UID. Raises StudyError if there is none.
    """
    candidates, warnings, faults = _volumes(headers, "CT")
    if not candidates:
        _raise_none(headers, "CT", faults)
    frames = pet[0].frames_of_reference
    rules = [
        Rule(lambda s: s[0].series in referred, "a label refers to the series taken"),
        Rule(
            lambda s: s[0].frames_of_reference == frames,
            f"its {tag_name('FrameOfReferenceUID')} is not the PET's",
        ),
        Rule(lambda s: _overlap_mm(s, pet), "it overlaps less with the PET", TOLERANCE),
        Rule(_slices, "it has fewer slices"),
    ]
    left_out = [
        f"CT series {series} is left out: {faults[series]}"
        for series in sorted(faults)
        if faults[series] != "a localizer"  # every scanner writes one
    ]
    taken, over = _best(candidates, rules, "CT")
    return Choice(candidates[taken], (*warnings.get(taken, ()), *left_out, *over))


def candidates_of(headers: Series, modality: str) -> dict[str, list[Header]]:
    """Every image series of a modality, by UID, whether it is usable or not."""
    found: dict[str, list[Header]] = defaultdict(list)
    for header in headers:
        if header.modality == modality and header.sop_class in SERIES_CLASSES[modality]:
            found[header.series].append(header)
    return dict(found)


def _volumes(
    headers: Series, modality: str
) -> tuple[dict[str, Series], dict[str, list[str]], dict[str, str]]:
    """Series without what is no slice, by UID; a warning where some was; what is no volume."""
    volumes: dict[str, Series] = {}
    warnings: dict[str, list[str]] = defaultdict(list)
    faults = {}
    for series, images in candidates_of(headers, modality).items():
        slices = [image for image in images if not image.no_slice]
        others = Counter(image.no_slice for image in images if image.no_slice)
        listed = " and ".join(f"{n} {kind}(s)" for kind, n in sorted(others.items()))
        if not slices:
            faults[series] = "a " + " and ".join(sorted(others))
        else:
            volumes[series] = slices
            if others:
                name = f"{modality} series {series}"
                warnings[series].append(f"{listed} among the slices of {name} not used")
    return volumes, warnings, faults


def _pet_fault(images: Series, accept: Collection[str]) -> str:
    """Why a PET series cannot be used, or nothing."""
    kind = next((i.series_type[0] for i in images if i.series_type[:1] and _moves(i)), None)
    if kind:
        return f"{tag_name('SeriesType')} is {kind}, expected STATIC or WHOLE BODY"
    if _uncorrected(images) and "uncorrected" not in accept:
        return f"not corrected for attenuation: {tag_name('CorrectedImage')} has no ATTN"
    return ""


def _moves(image: Header) -> bool:
    return image.series_type[0] in MOVING


def _uncorrected(images: Series) -> bool:
    """Whether CorrectedImage is there and lacks ATTN; where it is absent nothing is known."""
    return any(image.corrected and "ATTN" not in image.corrected for image in images)


def _raise_none(headers: Series, modality: str, faults: Mapping[str, str]) -> NoReturn:
    if faults:
        listed = "; ".join(f"{modality} series {s}: {faults[s]}" for s in sorted(faults))
        source = min(h.file for h in headers if h.series in faults)
        raise StudyError(f"no usable {modality} series: {listed}", str(source))
    counted = Counter(header.modality for header in headers)
    found = ", ".join(f"{name} {count} file(s)" for name, count in sorted(counted.items()))
    raise StudyError(f"no {modality} series (found: {found})")


def _best(candidates: ByUid, rules: Sequence[Rule], modality: str) -> tuple[str, list[str]]:
    """The UID that the rules leave, and for each other one a warning with the rule that it lost by.

    A tie that remains goes to the lowest SeriesNumber, then to the first UID.
    """
    left = dict(candidates)
    lost = {}
    by_number = Rule(_from_number, f"its {tag_name('SeriesNumber')} is higher or absent")
    for rule in (*rules, by_number):
        scores = {series: float(rule.score(images)) for series, images in left.items()}
        lowest = max(scores.values()) * (1 - rule.tolerance)
        for series, score in scores.items():
            if score < lowest:
                lost[series] = rule.loses
                del left[series]
    taken = min(left)
    lost |= {series: "alike in all else, its UID is later" for series in left if series != taken}
    warnings = [
        f"{modality} series {taken} is taken over {series}: {lost[series]}"
        for series in sorted(lost)
    ]
    return taken, warnings


def _is_whole_body(images: Series) -> bool:
    return "".join(images[0].series_type[:1]).replace(" ", "") == "WHOLEBODY"


def _slices(images: Series) -> int:
    """Different images; a copied file is no slice more."""
    return len({image.instance for image in images})


def _from_number(images: Series) -> float:
    number = images[0].series_number
    return -math.inf if number is None else -number


def _length_mm(images: Series) -> float:
    """Between the two outermost slices, in any direction."""
    positions = [image.position_mm for image in images if image.position_mm is not None]
    spans = [max(axis) - min(axis) for axis in zip(*positions, strict=True)]
    return math.hypot(*spans)


def _overlap_mm(images: Series, pet: Series) -> float:
    """How much of the PET's range along z a series spans; nothing where positions are absent."""
    ranges = [
        [image.position_mm[2] for image in series if image.position_mm is not None]
        for series in (images, pet)
    ]
    if not all(ranges):
        return 0.0
    (low, high), (pet_low, pet_high) = ((min(z), max(z)) for z in ranges)
    return max(0.0, min(high, pet_high) - max(low, pet_low))


def referred_series(
    labels: Series, candidates: ByUid, instances_of: Callable[[Header], set[str]]
) -> set[str]:
    """Which of the candidate series the labels refer to, by series or by single images.

    ``instances_of``: the SOP instances that a label names; asked only where its series do not
    tell, as it costs another read.
    """
    found: set[str] = set()
    for label in labels:
        named = set(label.referenced_series & candidates.keys())
        if len(named) > 1 or not label.referenced_series:
            images = instances_of(label)
            drawn_on = {s for s, c in candidates.items() if any(i.instance in images for i in c)}
            named = drawn_on or named
        found |= named
    return found
