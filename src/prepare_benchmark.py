"""What the benchmark works on: phantom studies as DICOM, converted, and on both grids."""

from __future__ import annotations

import argparse
import csv
import json
import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from convert_study import convert_study
from index_studies import index_studies
from make_phantom import make_phantom
from petct.command_line import exit_on_error
from petct.manifests import read_json, write_json
from resample_study import resample_study

# A full benchmark works on the first two, a smoke test on the last.
SETS = ("clinical", "demo", "smoke")
STUDY_COLUMNS = ["study", "patient", "positive", "lesion_ml"]


def prepare_benchmark(settings: dict[str, Any], output: Path, threads: int) -> None:
    """Write a folder per set of studies beside ``output``, and then ``output``, which names them.

    ``settings`` has, by the set's name, ``phantom`` (size and seed), the ``studies``' names and
    the settings of ``index``, ``conversion`` and ``preprocessing``. A set's folder has
    ``dicom/<study>``, ``index/studies/<study>.json``, ``convert_study/<study>`` and
    ``resample_study/<study>/<grid>``, each as the step of that name writes it, and ``studies.tsv``
    (STUDY_COLUMNS, from the phantom's truth). ``threads`` studies are worked on at once.
    """
    for name in SETS:
        shutil.rmtree(output.parent / name, ignore_errors=True)
    # Spawned: a forked child may inherit a lock that one of ITK's threads holds.
    with ProcessPoolExecutor(threads, mp_context=get_context("spawn")) as pool:
        for name, chosen in settings.items():
            folder, studies = output.parent / name, chosen["studies"]
            made = [(study, chosen["phantom"], folder) for study in studies]
            list(pool.map(make_study, *zip(*made, strict=True)))
            # With absolute paths: a contestant runs in a folder of its own.
            index_studies(folder.absolute() / "dicom", chosen["index"], folder / "index")
            read = [(study, chosen, folder) for study in studies]
            list(pool.map(read_study, *zip(*read, strict=True)))
            tabulate_truth(folder, studies)
    sets = {name: {"studies": chosen["studies"]} for name, chosen in settings.items()}
    write_json(output, {"sets": sets})


def make_study(study: str, phantom: dict[str, Any], folder: Path) -> None:
    make_phantom(study, phantom, folder / f"dicom/{study}/truth.json")


def read_study(study: str, settings: dict[str, Any], folder: Path) -> None:
    """Convert one indexed study below ``folder`` and bring it to the grids."""
    converted = folder / f"convert_study/{study}/study.json"
    convert_study(folder / f"index/studies/{study}.json", settings["conversion"], converted)
    resampled = folder / f"resample_study/{study}/study.json"
    resample_study(converted, settings["preprocessing"], resampled)


def tabulate_truth(folder: Path, studies: list[str]) -> None:
    """Write studies.tsv: who is who's, and what the truth holds of lesions."""
    with (folder / "studies.tsv").open("w", newline="") as file:
        table = csv.DictWriter(file, STUDY_COLUMNS, delimiter="\t", extrasaction="ignore")
        table.writeheader()
        table.writerows(read_json(folder / f"dicom/{study}/truth.json") for study in studies)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", type=json.loads, required=True, help="JSON: sets by name")
    parser.add_argument("--output", type=Path, required=True, help="inputs.json")
    parser.add_argument("--threads", type=int, required=True, help="studies at once")
    arguments = parser.parse_args()
    prepare_benchmark(arguments.settings, arguments.output, arguments.threads)


if __name__ == "__main__":
    with exit_on_error():
        main()
