"""What every script's command line shares: a readable end when something is wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from petct.errors import PetctError


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Turn a PetctError into one line on standard error and exit status 1."""
    try:
        yield
    except PetctError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
