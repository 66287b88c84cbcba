"""Each rule by which one of several series is taken, and each by which one is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import uid

from petct.errors import StudyError
from petct.file_tree import Header
from petct.series_choice import candidates_of, choose_ct, choose_pet, referred_series

PET_CLASS = str(uid.PositronEmissionTomographyImageStorage)
CT_CLASS = str(uid.CTImageStorage)


def series(
    name: str, z_mm: Sequence[float] = (0, 3, 6), modality: str = "PT", **changed: Any
) -> list[Header]:
    """One header per position along z."""
    header = Header(
        file=Path(),
        study="1",
        series=name,
        modality=modality,
        sop_class=PET_CLASS if modality == "PT" else CT_CLASS,
        instance="",
        patient="P",
        frames_of_reference=frozenset({"1.9"}),
        no_slice="",
        series_type=("WHOLE BODY", "IMAGE"),
        corrected=("DECY", "ATTN"),
        series_number=1.0,
        position_mm=None,
        names=(),
        referenced_series=frozenset(),
    )
    return [
        replace(
            header,
            **{
                "file": Path(f"{name}-{n}"),
                "instance": f"{name}.{n}",
                "position_mm": (0.0, 0.0, float(z)),
                **changed,
            },
        )
        for n, z in enumerate(z_mm)
    ]


def ct(name: str, z_mm: Sequence[float] = (0, 3, 6), **changed: Any) -> list[Header]:
    return series(name, z_mm, "CT", **changed)


def pet_of(
    *all_series: list[Header], referred: set[str] | None = None, accept: Sequence[str] = ()
) -> tuple[str, tuple[str, ...]]:
    headers = [header for one in all_series for header in one]
    choice = choose_pet(headers, referred or set(), accept)
    (name,) = {header.series for header in choice.series}
    return name, choice.warnings


def ct_of(*all_series: list[Header], referred: set[str] | None = None) -> tuple[str, Any]:
    headers = [header for one in all_series for header in one]
    choice = choose_ct(headers, series("p", (0, 3, 6, 9)), referred or set())
    (name,) = {header.series for header in choice.series}
    return name, choice.warnings


def test_one_series_is_taken_without_a_word() -> None:
    assert pet_of(series("1")) == ("1", ())
    assert ct_of(ct("1")) == ("1", ())


@pytest.mark.parametrize("kind", ["DYNAMIC", "GATED"])
def test_moving_series_are_left_out(kind: str) -> None:
    moving = series("1", (0, 3, 6, 9), series_type=(kind, "IMAGE"))
    expected = (
        f"PT series 1 is left out: SeriesType (0054,1000) is {kind}, expected STATIC or WHOLE BODY"
    )
    assert pet_of(moving, series("2")) == ("2", (expected,))
    with pytest.raises(StudyError) as caught:
        pet_of(moving)
    said = f"no usable PT series: PT series 1: SeriesType (0054,1000) is {kind}, expected STATIC"
    assert str(caught.value) == said + " or WHOLE BODY"
    assert caught.value.source == "1-0"


def test_uncorrected_series_are_left_out_unless_accepted() -> None:
    uncorrected = series("1", (0, 3, 6, 9), corrected=("DECY", "NORM"))
    reason = "not corrected for attenuation: CorrectedImage (0028,0051) has no ATTN"
    taken = pet_of(uncorrected, series("2"))
    assert taken == ("2", (f"PT series 1 is left out: {reason}",))
    with pytest.raises(StudyError, match="no usable PT series: PT series 1: not corrected"):
        pet_of(uncorrected)
    assert pet_of(uncorrected, accept=["uncorrected"]) == ("1", ())
    # What is corrected goes first even so.
    name, (warning,) = pet_of(uncorrected, series("2"), accept=["uncorrected"])
    assert name == "2"
    assert warning == "PT series 2 is taken over 1: it is not corrected for attenuation"


def test_nothing_is_known_without_corrected_image() -> None:
    assert pet_of(series("1", corrected=())) == ("1", ())


def test_every_reason_is_given_if_no_pet_is_usable() -> None:
    with pytest.raises(StudyError) as caught:
        pet_of(
            series("3", no_slice="projection"),
            series("1", series_type=("GATED", "IMAGE")),
            series("2", corrected=("DECY",)),
        )
    message = str(caught.value)
    assert message.startswith("no usable PT series: PT series 1: SeriesType (0054,1000) is GATED")
    assert "; PT series 2: not corrected for attenuation" in message
    assert message.endswith("; PT series 3: a projection")


def test_projections_are_left_out() -> None:
    projections = series("1", (0, 3, 6, 9), no_slice="projection")
    expected = ("PT series 1 is left out: a projection",)
    assert pet_of(projections, series("2")) == ("2", expected)


def test_what_is_no_slice_leaves_its_series() -> None:
    mixed = series("1") + series("1", (0, 0), no_slice="screen save")
    headers = choose_pet(mixed, set(), ())
    assert len(headers.series) == 3
    said = "2 screen save(s) among the slices of PT series 1 not used"
    assert headers.warnings == (said,)


PET_RULES = {
    "the label's": (series("2"), "a label refers to the series taken"),
    "whole body": (
        series("1", (0, 3, 6, 9), series_type=("STATIC", "IMAGE")),
        "its SeriesType (0054,1000) is not WHOLE BODY",
    ),
    "slices": (series("1", (0, 9)), "it has fewer slices"),
    "length": (series("1", (0, 2, 4)), "it is shorter"),
    "number": (series("1", series_number=2.0), "its SeriesNumber (0020,0011) is higher or absent"),
    "no number": (
        series("1", series_number=None),
        "its SeriesNumber (0020,0011) is higher or absent",
    ),
    "uid": (series("3"), "alike in all else, its UID is later"),
}


@pytest.mark.parametrize("name", PET_RULES)
def test_rules_of_the_pet(name: str) -> None:
    other, rule = PET_RULES[name]
    best = series("1") if name == "the label's" else series("2")
    (one,), (two,) = {h.series for h in best}, {h.series for h in other}
    referred = {one} if name == "the label's" else set()
    for order in ((best, other), (other, best)):
        taken = pet_of(*order, referred=referred)
        assert taken == (one, (f"PT series {one} is taken over {two}: {rule}",))


def test_rules_go_in_their_order() -> None:
    label = series("1", (0, 3), series_type=("STATIC", "IMAGE"))
    body = series("2", (0, 3, 6))
    static = series("3", (0, 3, 6, 9), series_type=("STATIC", "IMAGE"))
    name, warnings = pet_of(label, body, static, referred={"1"})
    assert name == "1"
    assert len(warnings) == 2
    assert pet_of(body, static)[0] == "2"
    short = series("4", (0, 1, 2, 3), series_number=0.0)
    assert pet_of(body, short)[0] == "4"  # slices before length


def test_copies_of_a_slice_do_not_count() -> None:
    copied = [*series("1", (0, 3)), *series("1", (0, 3))]
    assert pet_of(copied, series("2"))[0] == "2"


def test_lengths_within_a_hundredth_are_alike() -> None:
    assert pet_of(series("1", (0, 3, 6)), series("2", (0, 3, 6.05)))[0] == "1"
    assert pet_of(series("1", (0, 3, 6)), series("2", (0, 3, 6.07)))[0] == "2"


def test_localizers_are_no_ct_and_not_worth_a_word() -> None:
    scout = ct("1", (0,), no_slice="localizer")
    assert ct_of(scout, ct("2")) == ("2", ())
    with pytest.raises(StudyError, match="no usable CT series: CT series 1: a localizer"):
        ct_of(scout)
    assert ct_of(ct("1", no_slice="projection"), ct("2"))[1] == (
        "CT series 1 is left out: a projection",
    )


CT_RULES = {
    "the label's": (ct("2", (0, 3, 6, 9)), "a label refers to the series taken"),
    "frame": (
        ct("1", (0, 3, 6, 9), frames_of_reference=frozenset({"1.8"})),
        "its FrameOfReferenceUID (0020,0052) is not the PET's",
    ),
    # The PET spans 0 to 9 mm: 6 mm of this one, 3 mm of that, of however many slices.
    "overlap": (ct("1", (3, 1, -1, -3, -5)), "it overlaps less with the PET"),
    "slices": (ct("1", (0, 6)), "it has fewer slices"),
    "number": (ct("1", series_number=2.0), "its SeriesNumber (0020,0011) is higher or absent"),
    "uid": (ct("3"), "alike in all else, its UID is later"),
}


@pytest.mark.parametrize("name", CT_RULES)
def test_rules_of_the_ct(name: str) -> None:
    other, rule = CT_RULES[name]
    best = ct("1") if name == "the label's" else ct("2")
    (one,), (two,) = {h.series for h in best}, {h.series for h in other}
    referred = {one} if name == "the label's" else set()
    for order in ((best, other), (other, best)):
        taken = ct_of(*order, referred=referred)
        assert taken == (one, (f"CT series {one} is taken over {two}: {rule}",))


def test_overlaps_within_a_hundredth_are_alike() -> None:
    assert ct_of(ct("1", (0, 3, 8.95)), ct("2", (0, 9)))[0] == "1"
    assert ct_of(ct("1", (0, 3, 8.9)), ct("2", (0, 9)))[0] == "2"


def test_what_lies_beyond_the_pet_is_no_overlap() -> None:
    assert ct_of(ct("1", (20, 40, 60, 80)), ct("2", (8, 9)))[0] == "2"


def test_positions_that_are_no_numbers_count_for_nothing() -> None:
    assert ct_of(ct("1", position_mm=None), ct("2", (0, 6)))[0] == "2"
    assert pet_of(series("1", position_mm=None), series("2"))[0] == "2"


def test_no_series_of_a_kind() -> None:
    capture = series("1", sop_class=str(uid.SecondaryCaptureImageStorage))
    with pytest.raises(StudyError) as caught:
        choose_pet([*capture, *ct("2")], set(), ())
    assert str(caught.value) == "no PT series (found: CT 3 file(s), PT 3 file(s))"


def label_of(*referenced: str) -> Header:
    return series("9", (0,), referenced_series=frozenset(referenced))[0]


def never(label: Header) -> set[str]:
    raise AssertionError("its series tell")


def test_labels_refer_by_series_or_by_images() -> None:
    candidates = candidates_of([*series("1"), *series("2")], "PT")
    assert referred_series([label_of("1")], candidates, never) == {"1"}
    assert referred_series([label_of("7")], candidates, never) == set()
    assert referred_series([label_of("1"), label_of("2")], candidates, never) == {"1", "2"}
    # Both series, or none: the images drawn on tell, if they are known.
    assert referred_series([label_of("1", "2")], candidates, lambda label: {"2.1"}) == {"2"}
    assert referred_series([label_of()], candidates, lambda label: {"1.0"}) == {"1"}
    assert referred_series([label_of()], candidates, lambda label: set()) == set()
    assert referred_series([label_of("1", "2")], candidates, lambda label: set()) == {"1", "2"}
