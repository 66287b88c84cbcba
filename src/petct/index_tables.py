"""The files of an index of studies: a table, what was left out, and an entry for each study."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from petct.manifests import write_json
from petct.study_index import Excluded

STUDY_COLUMNS = ("study", "patient", "format", "folder", "label")
EXCLUDED_COLUMNS = ("study", "patient", "step", "reason", "file")


def write_index(
    output: Path,
    entries: Sequence[dict[str, Any]],
    rows: Sequence[Sequence[str]],
    excluded: Sequence[Excluded],
) -> None:
    """Write ``studies/<study>.json``, ``excluded.tsv`` and ``studies.tsv`` below ``output``.

    ``rows``: of studies.tsv, by STUDY_COLUMNS. Entries of an earlier index are removed.
    """
    shutil.rmtree(output / "studies", ignore_errors=True)
    (output / "studies").mkdir(parents=True)
    for entry in entries:
        write_json(output / "studies" / f"{entry['study']}.json", entry)
    left_out = [(row.study, row.patient, "index_studies", row.reason, row.file) for row in excluded]
    _write_table(output / "excluded.tsv", EXCLUDED_COLUMNS, left_out)
    _write_table(output / "studies.tsv", STUDY_COLUMNS, rows)


def _write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(header)
        writer.writerows([[" ".join(value.split()) for value in row] for row in rows])
