"""Contest without a peer: Snakemake plans the full AutoPET matrix, within limits of our own.

Of 1,611 studies only the index is there, and every job behind it is planned.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from petct.command_line import exit_on_error
from petct.contest import Contestant, report_outcome, run_contest
from petct.errors import PetctError
from petct.index_tables import write_index

STUDIES, STUDIES_SMOKE = 1611, 5  # FDG and PSMA
MOST_S, MOST_GB = 60.0, 1.0
ROOT = Path(__file__).absolute().parents[1]


def pretend_index(studies: int, folder: Path) -> None:
    """Write an index of so many studies below ``folder``, newer than what it would be made from."""
    (folder / "index.parquet").touch()
    names = [f"study-{number}" for number in range(studies)]
    index = folder / "results/full/index_studies"
    rows = [(name, name, "DICOM", "", "") for name in names]
    write_index(index, [{"study": name} for name in names], rows, [])
    (index / "source.json").write_text("{}")


def describe_matrix(folder: Path) -> dict[str, Any]:
    """What the full matrix, of eight models, adds to autopet.yaml; its index is in ``folder``."""
    segresnet = {"network": "SegResNet", "arguments": {"init_filters": 16}}
    models = ["unet", "unet_wide", "unetr", "unetr_wide", "nnunet", "nnunet_resenc"]
    return {
        "dataset": "full",
        "download": {"index": str(folder / "index.parquet")},
        "models": {"segresnet": segresnet, "segresnet_ds": segresnet},
        "experiments": {
            "models": [*models, "segresnet", "segresnet_ds"],
            "cohorts": ["all", "positive"],
            "exclude": [],
        },
    }


def compete(studies: int, folder: Path) -> None:
    """Plan it; how many jobs there are is told as quality."""
    folder = folder.absolute()
    pretend_index(studies, folder)
    overlay = folder / "full.json"
    overlay.write_text(json.dumps(describe_matrix(folder)))
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--directory", str(folder), "--dry-run", "--quiet", "host", "--configfile"]
    command += [str(ROOT / "config/autopet.yaml"), str(overlay)]
    start = time.perf_counter()
    result = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    seconds = time.perf_counter() - start
    found = re.search(r"(?m)^total +(\d+)$", result.stdout)
    if result.returncode or not found:
        raise PetctError(f"the plan failed: {result.stdout[-2000:]}")
    planned = re.search(r"(?m)^convert_study +(\d+)$", result.stdout)
    if not planned or int(planned[1]) != studies:
        raise PetctError(f"not {studies} studies were planned: {result.stdout[-2000:]}")
    report_outcome(folder, seconds, 1.0, jobs=float(found[1]))


def benchmark_planning(settings: dict[str, Any], output: Path) -> None:
    """Write the contest's table. ``settings``: size and repeats."""
    studies = STUDIES_SMOKE if settings["size"] == "smoke" else STUDIES
    command = [sys.executable, str(Path(__file__).absolute()), "--studies", str(studies)]
    us = Contestant("petct", "", command, most_s=MOST_S, most_gb=MOST_GB)
    folder = output.parent / "contest"
    size = f"{studies} studies"
    table = run_contest("planning", size, "plan", [us], settings["repeats"], folder)
    table.to_csv(output, sep="\t", index=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--settings", type=json.loads, help="JSON: size, repeats")
    parser.add_argument("--output", type=Path, help="table of the contest")
    parser.add_argument("--studies", type=int, help="plan so many in this folder")
    given = parser.parse_args()
    if given.studies:
        compete(given.studies, Path.cwd())
    else:
        benchmark_planning(given.settings, given.output)


if __name__ == "__main__":
    with exit_on_error():
        main()
