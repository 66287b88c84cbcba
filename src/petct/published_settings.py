"""The settings as a page that leaves the house may show them."""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

WITHHELD = "(withheld)"

# Where data lie, whose they are, and what would undo hashed keys.
PRIVATE = {
    ("folder",),
    ("reading", "salt_file"),
    ("download", "list"),
    ("download", "patients"),
    ("download", "index"),
    # A server of one's own tells the institution.
    ("download", "endpoint"),
}


def publish_settings(config: dict[str, Any]) -> dict[str, Any]:
    """A copy of the settings in which what is private says "(withheld)" where it was set.

    Withheld are the settings of PRIVATE and every text that is an absolute path, wherever it is.
    What was not set (null, or an empty list) is shown so.
    """
    return {key: _publish(value, (key,)) for key, value in config.items()}


def _publish(value: Any, place: tuple[Any, ...]) -> Any:
    if place in PRIVATE:
        return WITHHELD if value else value
    if isinstance(value, dict):
        return {key: _publish(inner, (*place, key)) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_publish(inner, (*place, number)) for number, inner in enumerate(value)]
    return WITHHELD if isinstance(value, str) and is_absolute(value) else value


def is_absolute(text: str) -> bool:
    """Whether the text is a path from the root or from a person's own folder."""
    return (
        PurePosixPath(text).is_absolute()
        or PureWindowsPath(text).is_absolute()
        or text.startswith(("~", "file:"))
    )
