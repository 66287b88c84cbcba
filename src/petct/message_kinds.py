"""Messages that say the same with other numbers, counted as one kind."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

# A tag's number, which is a name; else a number, a time (two colons) or an identifier (many dots)
# that stands alone, not within a word.
TAG = r"\([0-9A-Fa-f]{4},[0-9A-Fa-f]{4}\)"
NUMBER = r"(?<![\w.])[-−]?\d+(?:[.:]\d+)*(?:e[-+]?\d+)?(?!\w)"
PART = re.compile(f"({TAG})|({NUMBER})")
GAP = "\0"
ANY = "…"


@dataclass(frozen=True)
class Kind:
    """What several messages say, and of how many different things (``bearers``)."""

    text: str
    bearers: int


def count_kinds(messages: Iterable[tuple[str, str]]) -> list[Kind]:
    """The kinds of the messages, given as (bearer, message): the most frequent first.

    Messages are of one kind if they differ in numbers only. A kind's text has a number where all
    have the same, "a to b" where they differ, and "…" for a time that differs and for any UID.
    """
    bearers: dict[str, set[str]] = {}
    values: dict[str, list[set[str]]] = {}
    for bearer, message in messages:
        found: list[str] = []

        def leave_gap(match: re.Match[str], found: list[str] = found) -> str:
            if match[1]:
                return match[1]
            found.append(match[2])
            return GAP

        words = PART.sub(leave_gap, message.replace(GAP, ""))
        bearers.setdefault(words, set()).add(bearer)
        slots = values.setdefault(words, [set() for _ in found])
        for slot, value in zip(slots, found, strict=True):
            slot.add(value)
    kinds = [Kind(_fill(words, slots), len(bearers[words])) for words, slots in values.items()]
    return sorted(kinds, key=lambda kind: (-kind.bearers, kind.text))


def _fill(words: str, slots: list[set[str]]) -> str:
    first, *others = words.split(GAP)
    return first + "".join(_span(slot) + rest for slot, rest in zip(slots, others, strict=True))


def _span(written: set[str]) -> str:
    if any(value.count(".") > 1 for value in written):
        return ANY
    if len(written) == 1:
        return next(iter(written))
    if any(":" in value for value in written):
        return ANY
    ordered = sorted(written, key=lambda value: (float(value.replace("−", "-")), value))
    return f"{ordered[0]} to {ordered[-1]}"
