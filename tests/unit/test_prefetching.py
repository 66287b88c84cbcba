"""Reading ahead keeps the order, passes errors on, stays within its bound, and ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from petct.prefetching import run_ahead


def test_values_come_in_order_and_not_too_early() -> None:
    drawn: list[int] = []

    def count() -> Iterator[int]:
        for number in range(20):
            drawn.append(number)
            yield number

    taken = []
    for number in run_ahead(count(), 2):
        taken.append(number)
        # Two wait, one more is in the thread's hands.
        assert len(drawn) <= len(taken) + 3
    assert taken == list(range(20))


def test_an_error_comes_after_the_values_before_it() -> None:
    def fail() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    values = run_ahead(fail(), 3)
    assert next(values) == 1
    with pytest.raises(OSError, match="gone"):
        next(values)


def test_the_thread_ends_when_nobody_wants_more() -> None:
    before = threading.active_count()
    values = run_ahead(iter(range(1000)), 1)
    assert next(values) == 0
    values.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_values_are_drawn_while_others_are_used() -> None:
    ready = threading.Event()

    def draw() -> Iterator[int]:
        yield 0
        yield 1
        ready.set()

    values = run_ahead(draw(), 2)
    assert next(values) == 0
    assert ready.wait(timeout=10)
    assert list(values) == [1]
