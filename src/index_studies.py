"""List the PET/CT studies of a folder or a collection: where each one's PET, CT and label are."""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from petct.command_line import exit_on_error
from petct.errors import PetctError
from petct.file_tree import read_tree
from petct.imaging_data_commons import index_collection
from petct.index_tables import write_index
from petct.study_index import Study, find_studies, salt_of, to_entry
from petct.study_keys import hashed_key

CHOICES = {
    "missing_label": ("exclude", "negative"),
    "keys": ("original", "hashed"),
    "unusable_study": ("exclude", "stop"),
}
ACCEPTABLE = ("uncorrected", "single_slices", "missing_ct", "shifted_dates")


def index_studies(
    folder: Path, settings: dict[str, Any], output: Path, only: Sequence[str] = ()
) -> None:
    """Write ``studies.tsv``, ``excluded.tsv`` and ``studies/<study>.json`` below ``output``.

    ``settings``: ``missing_label`` ("exclude" or "negative": a study without any label),
    ``label_pattern`` (regular expression for the names of lesions; None: labels are not read and
    none is missed), ``accept`` (of what is refused
    otherwise: uncorrected, single_slices, missing_ct), ``keys`` and ``salt_file`` ("original", or
    "hashed" with a salt: then only the entries hold paths, and nothing holds a key or UID of the
    input), ``unusable_study`` ("exclude", or "stop": PetctError after the tables are written).

    ``only`` names the studies to take, by their original keys, where the folder may hold others,
    as after a run that asked for more; empty takes all. Raises PetctError if ``folder`` is missing,
    empty or holds nothing of the kind.
    """
    _check(settings)
    salt = salt_of(settings)
    shown = "the study folder" if salt else f"study folder {folder}"
    if not folder.is_dir():
        raise PetctError(f"{shown} does not exist or is not a folder")
    tree = read_tree(folder, workers=min(16, os.cpu_count() or 1))
    if not tree.files and not tree.damaged:
        raise PetctError(f"{shown} is empty, expected DICOM or NIfTI studies")

    studies, excluded = find_studies(tree, folder, settings)
    if not studies and not excluded:
        raise PetctError(
            f"none of the {tree.files} files of {shown} is DICOM or named as in the NIfTI releases "
            "of AutoPET (SUV.nii.gz, CT.nii.gz, SEG.nii.gz, or imagesTr and labelsTr)"
        )
    if only:
        only = [hashed_key(salt, "study", name) for name in only] if salt else only
        studies = [study for study in studies if study.study in only]
        excluded = [row for row in excluded if row.study in only]
    entries = [to_entry(study, folder) for study in studies]
    write_index(output, entries, [_row(study) for study in studies], excluded)
    print(f"{len(studies)} studies, {len(excluded)} excluded, among {tree.files} files of {shown}")
    for row in excluded:
        print(f"excluded {row.study or row.file}: {row.reason}")
    if excluded and settings["unusable_study"] == "stop":
        row = excluded[0]
        raise PetctError(f"{row.study or row.file} cannot be used: {row.reason} ({row.file})")


def _check(settings: Mapping[str, Any]) -> None:
    """Raise PetctError for a setting that is absent or not one of its words."""
    if missing := sorted({"label_pattern", "accept", "salt_file", *CHOICES} - settings.keys()):
        raise PetctError(f"the settings lack {', '.join(missing)}")
    for name, choices in CHOICES.items():
        if settings[name] not in choices:
            expected = " or ".join(map(repr, choices))
            raise PetctError(f"{name} is {settings[name]!r}, expected {expected}")
    if unknown := sorted(set(settings["accept"]) - set(ACCEPTABLE)):
        raise PetctError(
            f"accept has {', '.join(unknown)}, expected any of {', '.join(ACCEPTABLE)}"
        )
    pattern = settings["label_pattern"]
    try:
        re.compile(pattern or "")
    except re.error as error:
        raise PetctError(
            f"label_pattern is {pattern!r}, not a regular expression: {error}"
        ) from None


def _row(study: Study) -> tuple[str, ...]:
    place = "-" if study.hashed else str(study.folder)
    label = study.label.kind if study.label else "none"
    return study.study, study.patient, study.format, place, label


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--folder", type=Path, help="root of the studies")
    where.add_argument("--request", type=json.loads, help="collection, seed and download, as JSON")
    parser.add_argument("--settings", type=json.loads, required=True, help="JSON object")
    parser.add_argument("--output-folder", type=Path, required=True, help="where the index goes")
    parser.add_argument("--only", nargs="*", default=(), help="studies to take; all if none")
    arguments = parser.parse_args()
    if arguments.request:
        _check(arguments.settings)
        index_collection(
            **arguments.request, reading=arguments.settings, output=arguments.output_folder
        )
        return
    index_studies(arguments.folder, arguments.settings, arguments.output_folder, arguments.only)


if __name__ == "__main__":
    with exit_on_error():
        main()
