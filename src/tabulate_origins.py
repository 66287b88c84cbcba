"""Say where each model and table comes from: one row of code, data, versions and hardware each."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pandas as pd

from petct.command_line import exit_on_error
from petct.errors import PetctError
from petct.manifests import read_json

COLUMNS = [
    *["result", "script", "code", "settings", "data", "files", "studies"],
    *["versions", "hardware"],
]


def tabulate_origins(models: list[Path], tables: list[Path], output: Path) -> None:
    """Write one row per model and table, so that what differs between results is seen.

    ``models`` are model.json files, ``tables`` the ``<table>.origin.json`` beside tables; those
    beside the tables that these were made from follow by themselves. Columns: ``result``, the file
    as seen from the folder that ``output``'s folder lies in; ``settings`` and ``data``, digests of
    what the origin says of them; ``files``, how many files were read; ``studies``, how many a model
    trained on; ``code``, ``versions`` and ``hardware`` as the origin has them. Raises PetctError if
    a model states no origin.
    """
    results = output.parent.parent
    rows = []
    for path in models:
        model = read_json(path)
        if "origin" not in model:
            raise PetctError(f"{path} states no origin; remove it to train again")
        rows.append(origin_row(path, results, model["origin"]) | {"studies": len(model["studies"])})
    for path, origin in sorted(follow_origins(tables).items()):
        rows.append(origin_row(table_of(path), results, origin))
    together = pd.DataFrame(rows, columns=COLUMNS).astype({"studies": "Int64"})
    output.parent.mkdir(parents=True, exist_ok=True)
    together.to_csv(output, sep="\t", index=False, na_rep="nan")


def table_of(origin: Path) -> Path:
    return origin.with_name(origin.name.removesuffix(".origin.json") + ".tsv")


def follow_origins(tables: list[Path]) -> dict[Path, dict[str, Any]]:
    """These origins of tables, and those of the tables that they were made from, by their paths.

    Raises PetctError if a table is not the one that another was made from.
    """
    origins: dict[Path, dict[str, Any]] = {}
    waiting = list(tables)
    while waiting:
        path = waiting.pop()
        if path in origins:
            continue
        origins[path] = read_json(path)
        for name, digest in origins[path]["data"].items():
            source = Path(os.path.normpath(path.parent / name)).with_suffix(".origin.json")
            if not name.endswith(".tsv") or not source.is_file():
                continue
            waiting.append(source)
            found = read_json(source)["sha256"]
            if found != digest:
                raise PetctError(
                    f"{table_of(path)} was made from {table_of(source)} with SHA-256"
                    f" {digest[:12]}, but that table's origin says {found[:12]}; remove"
                    f" {table_of(path)} to make it again"
                )
    return origins


def origin_row(path: Path, results: Path, origin: dict[str, Any]) -> dict[str, Any]:
    """The row of the result at ``path``, but for its number of studies."""
    versions = sorted(origin["versions"].items(), key=lambda item: item[0].lower())
    return {
        "result": str(path.relative_to(results)),
        "script": origin["script"],
        "code": origin["code"],
        "settings": digest_value(origin["settings"]),
        "data": digest_value(origin["data"]),
        "files": len(origin["data"]),
        "versions": ", ".join(f"{name} {version}" for name, version in versions),
        "hardware": name_hardware(origin["hardware"]),
    }


def digest_value(value: Any) -> str:
    """SHA-256 of a JSON value (12 hex digits)."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def name_hardware(hardware: dict[str, Any]) -> str:
    """In one line, the GPU first."""
    name = "{processor}, {logical_cores} logical cores, {system}".format(**hardware)
    if "gpu" in hardware:
        name = "{gpu}, driver {driver}, CUDA {cuda}; ".format(**hardware) + name
    if "processes" in hardware:
        name = "{processes} processes on ".format(**hardware) + name
    return name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, nargs="*", required=True, help="model.json ...")
    parser.add_argument("--tables", type=Path, nargs="+", required=True, help="... .origin.json")
    parser.add_argument("--output", type=Path, required=True, help="origins.tsv")
    tabulate_origins(**vars(parser.parse_args()))


if __name__ == "__main__":
    with exit_on_error():
        main()
