"""List the PET/CT studies of a folder: where each one's PET, CT and label are."""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from petct.command_line import exit_on_error
from petct.errors import PetctError
from petct.file_tree import read_tree
from petct.manifests import write_json
from petct.study_index import Excluded, Study, find_studies, fingerprint


def index_studies(
    folder: Path, settings: dict[str, Any], output: Path, only: Sequence[str] = ()
) -> None:
    """Write ``studies.tsv``, ``excluded.tsv`` and ``studies/<study>.json`` below ``output``.

    ``settings``: ``missing_label`` ("exclude" or "negative": a study without any label) and
    ``label_pattern`` (regular expression for the names of lesions). ``only`` names the studies to
    take where the folder may hold others, as after a run that asked for more; empty takes all.
    Raises PetctError if
    ``folder`` is missing, empty or holds nothing of the kind.
    """
    missing_label, pattern = settings["missing_label"], settings["label_pattern"]
    if missing_label not in ("exclude", "negative"):
        raise PetctError(f"missing_label is {missing_label!r}, expected 'exclude' or 'negative'")
    try:
        re.compile(pattern)
    except re.error as error:
        raise PetctError(
            f"label_pattern is {pattern!r}, not a regular expression: {error}"
        ) from None
    if not folder.is_dir():
        raise PetctError(f"study folder {folder} does not exist or is not a folder")
    tree = read_tree(folder, workers=min(16, os.cpu_count() or 1))
    if not tree.files:
        raise PetctError(f"study folder {folder} is empty, expected DICOM or NIfTI studies")

    studies, excluded = find_studies(tree, folder, missing_label, pattern)
    if not studies and not excluded:
        raise PetctError(
            f"none of the {tree.files} files of {folder} is DICOM or named as in the NIfTI release "
            "of AutoPET (SUV.nii.gz, CT.nii.gz, SEG.nii.gz)"
        )
    if only:
        studies = [study for study in studies if study.study in only]
        excluded = [row for row in excluded if row.study in only]
    shutil.rmtree(output / "studies", ignore_errors=True)
    (output / "studies").mkdir(parents=True)
    for study in studies:
        write_json(output / "studies" / f"{study.study}.json", _entry(study, folder))
    _write_excluded(output / "excluded.tsv", excluded)
    _write_studies(output / "studies.tsv", studies)
    print(f"{len(studies)} studies, {len(excluded)} excluded, among {tree.files} files of {folder}")
    for row in excluded:
        print(f"excluded {row.study or row.file}: {row.reason}")


def _entry(study: Study, root: Path) -> dict[str, Any]:
    label = study.label
    return {
        "study": study.study,
        "patient": study.patient,
        "format": study.format,
        "folder": str(study.folder),
        "pet": {"series": study.pet_series, "files": [str(path) for path in study.pet]},
        "ct": {"series": study.ct_series, "files": [str(path) for path in study.ct]},
        "label": label
        and {
            "kind": label.kind,
            "files": [str(path) for path in label.files],
            "refers_to": label.refers_to,
        },
        "warnings": list(study.warnings),
        "fingerprint": fingerprint(study, root),
    }


def _write_studies(path: Path, studies: Sequence[Study]) -> None:
    rows = [
        (s.study, s.patient, s.format, str(s.folder), s.label.kind if s.label else "none")
        for s in studies
    ]
    _write_table(path, ("study", "patient", "format", "folder", "label"), rows)


def _write_excluded(path: Path, excluded: Sequence[Excluded]) -> None:
    rows = [(row.study, row.patient, "index_studies", row.reason, row.file) for row in excluded]
    _write_table(path, ("study", "patient", "step", "reason", "file"), rows)


def _write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(header)
        writer.writerows([[" ".join(value.split()) for value in row] for row in rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="root of the studies")
    parser.add_argument("--settings", type=json.loads, required=True, help="JSON object")
    parser.add_argument("--output-folder", type=Path, required=True, help="where the index goes")
    parser.add_argument("--only", nargs="*", default=(), help="studies to take; all if none")
    arguments = parser.parse_args()
    index_studies(arguments.folder, arguments.settings, arguments.output_folder, arguments.only)


if __name__ == "__main__":
    with exit_on_error():
        main()
