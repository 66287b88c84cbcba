"""Put the contests' tables together; with --markdown, print the README's table of such a table."""

from __future__ import annotations

import argparse
import json
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from petct.command_line import exit_on_error
from petct.contest import COLUMNS
from petct.manifests import read_json, whole_table, write_json
from petct.provenance import save_origin
from petct.speed import read_benchmark, show_markdown, tell_speed

# Peers that the environment brings, and what they and we compute with.
ENVIRONMENT = [
    *["nnunetv2", "batchgeneratorsv2", "monai", "torchio", "connected-components-3d"],
    *["torch", "numpy", "scipy", "SimpleITK", "blosc2"],
]


def tabulate_benchmark(
    contests: list[Path], peers: Path, settings: dict[str, Any], code: str, output: Path
) -> None:
    """Write all rows, in the contests' order, and the table's origin with the peers' versions."""
    tables = [pd.read_csv(whole_table(path), sep="\t", dtype=str) for path in contests]
    table = pd.concat(tables, ignore_index=True)[COLUMNS]
    output.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(output, sep="\t", index=False)
    save_origin(output, "tabulate_benchmark", code, settings, [*contests, peers])
    path = output.with_suffix(".origin.json")
    origin = read_json(path)
    origin["peers"] = {name: metadata.version(name) for name in ENVIRONMENT}
    origin["peers"] |= read_json(peers)["versions"]
    if torch.cuda.is_available():
        origin["hardware"]["gpu"] = torch.cuda.get_device_name(0)
    write_json(path, origin)
    print("\n".join(tell_speed(read_benchmark(output))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contests", type=Path, nargs="+", help="tables of the contests")
    parser.add_argument("--peers", type=Path, help="peers.json")
    parser.add_argument("--settings", type=json.loads, help="JSON: size, repeats")
    parser.add_argument("--code", help="digest of the code")
    parser.add_argument("--output", type=Path, help="benchmark.tsv")
    parser.add_argument("--markdown", type=Path, help="print this benchmark.tsv and write nothing")
    given = vars(parser.parse_args())
    markdown = given.pop("markdown")
    if markdown:
        print(show_markdown(read_benchmark(markdown)))
        return
    tabulate_benchmark(**given)


if __name__ == "__main__":
    with exit_on_error():
        main()
