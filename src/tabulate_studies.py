"""Say of every study that is used how it was read: one row of SUV, geometry and warnings each."""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import pandas as pd

from petct.command_line import exit_on_error
from petct.manifests import read_json, whole_table
from petct.provenance import save_origin

COLUMNS = [
    *["study", "patient", "format", "positive", "lesion_ml", "suv_max"],
    *["units", "suv_mode", "suv_factor_low", "suv_factor_high"],
    *["autopet_ratio_low", "autopet_ratio_high", "autopet_note"],
    *["ct_covers_pet_share", "pet_shape_zyx", "pet_spacing_zyx_mm", "warnings", "explanation"],
]


def tabulate_studies(index: Path, converted: Path, resampled: Path, output: Path) -> None:
    """Write one row per study of ``index`` (its studies.tsv) that no later step left out.

    ``converted`` and ``resampled`` hold ``<study>/study.json`` of convert_study and resample_study.
    What is undefined, such as the ratio of a study whose SUVs came ready, is "nan". Units are
    those of the manifest: SUV and the ratio have none, a factor is g/mL per rescaled value,
    ``ct_covers_pet_share`` is 0 to 1. Without studies, only the header.
    """
    formats = pd.read_csv(whole_table(index), sep="\t", dtype=str, keep_default_na=False)
    rows = []
    extra: list[str] = []
    for study, form in zip(formats["study"], formats["format"], strict=True):
        if read_json(resampled / study / "study.json")["status"] == "excluded":
            continue
        manifest = read_json(converted / study / "study.json")
        row, factors = study_row(manifest, form)
        extra += [name for name in factors if name not in extra]
        rows.append(row | factors)
    table = pd.DataFrame(rows, columns=[*COLUMNS, *sorted(extra)])
    output.parent.mkdir(parents=True, exist_ok=True)
    table.sort_values("study").to_csv(
        output, sep="\t", index=False, na_rep="nan", quoting=csv.QUOTE_MINIMAL
    )
    warned = sum(row["warnings"] != "" for row in rows)
    print(f"{len(rows)} of {len(formats)} studies are used, {warned} of them with warnings")


def study_row(manifest: dict[str, Any], form: str) -> tuple[dict[str, Any], dict[str, float]]:
    """The row of a converted study, and what turns its SUVbw into the other SUVs asked for.

    ``form``: what it came as, in the index's word.
    """
    suv = manifest["suv"]
    low, high = suv.get("factor_range") or (suv["factor"], suv["factor"])
    ratio_low, ratio_high = suv.get("autopet_ratio") or (None, None)
    row = {
        **{name: manifest[name] for name in ("study", "patient", "positive")},
        **{name: manifest[name] for name in ("lesion_ml", "suv_max")},
        "format": form,
        "units": suv["units"],
        "suv_mode": suv.get("mode") or "",
        "suv_factor_low": low,
        "suv_factor_high": high,
        "autopet_ratio_low": ratio_low,
        "autopet_ratio_high": ratio_high,
        "autopet_note": one_line(suv.get("autopet_note") or ""),
        "ct_covers_pet_share": manifest["ct"]["covers_pet_share"],
        "pet_shape_zyx": times(manifest["pet"]["shape_zyx"]),
        "pet_spacing_zyx_mm": times(manifest["pet"]["spacing_xyz_mm"][::-1]),
        "warnings": join_warnings(manifest["warnings"]),
        "explanation": one_line(suv["explanation"]),
    }
    others = suv.get("also") or {}
    return row, {f"{name}_per_suvbw": other["per_suvbw"] for name, other in others.items()}


def join_warnings(warnings: list[str]) -> str:
    """The warnings in one cell, parted by "; ", which none of them keeps for itself."""
    return "; ".join(one_line(warning).replace("; ", ", ") for warning in warnings)


def one_line(text: str) -> str:
    return " ".join(text.split())


def times(numbers: list[float]) -> str:
    """ "189x112x112" """
    return "x".join(f"{number:g}" for number in numbers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--index", type=Path, required=True, help="studies.tsv of index_studies")
    parser.add_argument("--converted", type=Path, required=True, help="folder of convert_study")
    parser.add_argument("--resampled", type=Path, required=True, help="folder of resample_study")
    parser.add_argument("--output", type=Path, required=True, help="studies.tsv")
    parser.add_argument("--code", required=True, help="digest of the code")
    arguments = parser.parse_args()
    tabulate_studies(arguments.index, arguments.converted, arguments.resampled, arguments.output)
    studies = pd.read_csv(arguments.index, sep="\t", dtype=str, keep_default_na=False)["study"]
    manifests = [
        folder / study / "study.json"
        for folder in (arguments.converted, arguments.resampled)
        for study in studies
    ]
    inputs = [arguments.index, *manifests]
    save_origin(arguments.output, "tabulate_studies", arguments.code, None, inputs)


if __name__ == "__main__":
    with exit_on_error():
        main()
