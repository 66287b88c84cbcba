"""Reading ahead: a thread that draws from an iterator while its values are used."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import Empty, Full, Queue
from typing import TypeVar

Value = TypeVar("Value")

# How often a thread that waits looks whether anybody still wants its values.
_LOOK_EVERY_S = 0.1


def run_ahead(values: Iterator[Value], number: int) -> Iterator[Value]:
    """The same values in the same order, drawn before they are asked for.

    Besides the one in use at most ``number`` wait, and one more is being drawn. One thread draws,
    so ``values`` must touch nothing that others use meanwhile. What it raises is raised here, in
    its place. The thread ends with this iterator.
    """
    queue: Queue[tuple[Value | None, BaseException | None]] = Queue(number)
    wanted = threading.Event()
    wanted.set()

    def put(item: tuple[Value | None, BaseException | None]) -> bool:
        while wanted.is_set():
            try:
                queue.put(item, timeout=_LOOK_EVERY_S)
            except Full:
                continue
            return True
        return False

    def draw() -> None:
        try:
            for value in values:
                if not put((value, None)):
                    return
        except BaseException as error:
            put((None, error))
        else:
            put((None, StopIteration()))

    thread = threading.Thread(target=draw, daemon=True)
    thread.start()
    try:
        while True:
            value, error = queue.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield value  # type: ignore[misc]
    finally:
        wanted.clear()
        while thread.is_alive():
            try:
                queue.get_nowait()
            except Empty:
                thread.join(_LOOK_EVERY_S)
