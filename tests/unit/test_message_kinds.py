"""Counting messages whatever their numbers."""

from __future__ import annotations

import pytest

from petct.message_kinds import Kind, count_kinds


def test_messages_that_differ_in_numbers_are_one_kind() -> None:
    messages = [
        ("a", "the CT covers 77.3 % of the PET grid, -1024 HU elsewhere"),
        ("b", "no label"),
        ("c", "the CT covers 9.0 % of the PET grid, -1024 HU elsewhere"),
        ("a", "the CT covers 50 % of the PET grid, -1024 HU elsewhere"),
    ]
    assert count_kinds(messages) == [
        Kind("the CT covers 9.0 to 77.3 % of the PET grid, -1024 HU elsewhere", 2),
        Kind("no label", 1),
    ]
    assert count_kinds([]) == []


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        # Numbers are compared as such, and written as they were.
        ("gap 9 mm", "gap 10.0 mm", "gap 9 to 10.0 mm"),
        ("at -3.5 mm", "at 2 mm", "at -3.5 to 2 mm"),
        ("factor 1e-05", "factor 0.2", "factor 1e-05 to 0.2"),
        # Nobody wants a range of identifiers or of times.
        ("PT series 1.2.3.4: cut", "PT series 1.2.3.55: cut", "PT series …: cut"),
        ("start 08:43:34.5", "start 09:00:00", "start …"),
        # A tag's number is a name, and so is a number within a word.
        ("x (0018,1074) is 3", "x (0018,1074) is 4", "x (0018,1074) is 3 to 4"),
        ("F-18, 3 of 5.", "F-18, 4 of 5.", "F-18, 3 to 4 of 5."),
        ("1", "2", "1 to 2"),
    ],
)
def test_what_differs_is_a_range(first: str, second: str, together: str) -> None:
    assert count_kinds([("a", first), ("b", second)]) == [Kind(together, 2)]


@pytest.mark.parametrize(
    ("first", "second"),
    [("IM001 cut", "IM002 cut"), ("(0009,100D)", "(0008,0031)"), ("two", "three")],
)
def test_other_words_are_other_kinds(first: str, second: str) -> None:
    assert len(count_kinds([("a", first), ("b", second)])) == 2


def test_a_single_message_stays_as_it_is_but_for_its_identifiers() -> None:
    text = "CT series 1.2.840.7 lacks 1 slice(s) at 08:00:01, 3x4\0"
    assert count_kinds([("a", text)]) == [Kind("CT series … lacks 1 slice(s) at 08:00:01, 3x4", 1)]
