"""What can go wrong, as far as a caller must tell it apart."""

from __future__ import annotations

from pathlib import Path

_SCRIPTS = Path(__file__).parents[1]
# What rules declare as outputs and write last, beside or above their other files.
_MANIFESTS = (
    *("study.json", "predictions.json", "model.json", "regions.json", "plans.json"),
    *("pictures.json", "truth.json", "download.json"),
)
# What predictions that are there already are kept by.
_NOTE = "prediction.json"
# What many rules write to.
_TABLES = "tables"


class PetctError(Exception):
    """A message for the person at the keyboard: what, where, got, expected."""


class StudyError(PetctError):
    """One study cannot be used; the others go on without it.

    ``source`` is the file or folder at fault, for ``excluded.tsv``.
    """

    def __init__(self, message: str, source: str = "") -> None:
        super().__init__(message)
        self.source = source


class DamagedFileError(PetctError, ValueError):
    """A file that an earlier job wrote is missing, empty, cut short or garbled."""


def damaged(path: Path) -> DamagedFileError:
    """The error that says what is wrong with ``path`` and how to have it made again."""
    if not path.exists():
        what = "is missing"
    elif not path.stat().st_size:
        what = "is empty"
    else:
        what = "is cut short or garbled"
    return DamagedFileError(f"{path} {what}{advise_to_remake(path)}")


def advise_to_remake(path: Path) -> str:
    """How to have a file in the results made again; nothing for a file that no rule makes.

    Snakemake goes by a rule's declared output, and makes one anew that only steps further down
    have been made from if it is asked for by name.
    """
    places = [
        place
        for place, part in enumerate(path.parts)
        if part == _TABLES or (_SCRIPTS / f"{part}.py").is_file()
    ]
    if not places:
        return ""
    rule = path.parts[places[-1]]
    folders = path.parents[: len(path.parts) - places[-1] - 1]
    found = [folder / name for folder in folders for name in _MANIFESTS]
    declared = next((file for file in found if file.is_file()), None)
    if declared is None and path.suffix in (".tsv", ".json", ".png") and rule != "index_studies":
        declared = path
    kept = [path.parent / _NOTE, path] if path == declared else [path.parent / _NOTE]
    kept = [file for file in kept if file.is_file()]
    removal = f"remove {' and '.join(map(str, kept))}, " if kept else ""
    target = f"--force {declared}" if declared else f"--forcerun {rule}"
    maker = "" if rule == _TABLES else f" by {rule}"
    return (
        f"; to have it made again{maker}, {removal}run snakemake with the same options and "
        f"{target}, then as before"
    )
