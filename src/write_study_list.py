"""Write the page and the table of all new studies: what was found, and whom a person should see."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from petct.command_line import exit_on_error
from petct.manifests import read_json, whole_table
from petct.packages import name_experiment
from petct.pages import open_template

COLUMNS = [
    *["study", "patient", "status", "lesions", "mtv_ml", "tlg", "suv_max", "largest_distance_mm"],
    *["probability", "fold_dice", "look", "warnings"],
]
EXCLUDED = "excluded"


def write_study_list(
    index: Path,
    excluded: Path,
    package: Path,
    described: Path,
    template: Path,
    table: Path,
    output: Path,
) -> None:
    """Write ``table`` (studies.tsv) and ``output``, a page that links to each study's own.

    ``index`` and ``excluded`` are tables of index_studies, ``described`` holds <study>/study.json
    of describe_lesions. Every study of either has a row: one that was left out, with its reason.
    """
    names = pd.read_csv(whole_table(index), sep="\t", dtype=str, keep_default_na=False)["study"]
    rows = [list_study(read_json(described / name / "study.json")) for name in names]
    lost = pd.read_csv(whole_table(excluded), sep="\t", dtype=str, keep_default_na=False)
    unread = [
        {"study": row["study"] or row["file"], "patient": row["patient"], "status": EXCLUDED}
        | {"look": row["reason"]}
        for row in lost.to_dict("records")
    ]
    listed = pd.DataFrame([*rows, *unread], columns=COLUMNS)
    table.parent.mkdir(parents=True, exist_ok=True)
    listed.to_csv(table, sep="\t", index=False, na_rep="nan", float_format="%.6g")
    description = read_json(package)
    page = open_template(template).render(
        studies=[show(row, row["study"] in set(names)) for row in listed.to_dict("records")],
        looks=sum(row["status"] != EXCLUDED and row["look"] != "" for row in rows),
        done=sum(row["status"] != EXCLUDED for row in rows),
        experiment=name_experiment(description, " / "),
        package=description,
        stylesheet=Markup(template.with_name("study_page.css").read_text()),
    )
    output.write_text(page)
    done = listed[listed["status"] != EXCLUDED]
    found = int((done["lesions"].astype(float) > 0).sum())
    print(
        f"{len(done)} of {len(listed)} studies done, lesions in {found};"
        f" {int((done['look'] != '').sum())} should be looked at: open {output}"
    )
    for row in listed[listed["status"] == EXCLUDED].to_dict("records"):
        print(f"left out {row['study']}: {row['look']}")


def list_study(told: dict[str, Any]) -> dict[str, Any]:
    """A row of studies.tsv."""
    if told["status"] == EXCLUDED:
        return {key: told[key] for key in ("study", "patient", "status")} | {"look": told["reason"]}
    lists = {key: "; ".join(told[key]) for key in ("look", "warnings")}
    return {key: told[key] for key in COLUMNS if key not in lists} | lists


def show(row: dict[Any, Any], has_page: bool) -> dict[str, Any]:
    """A row as text for the page."""

    def number(key: str, digits: int) -> str:
        return "–" if pd.isna(row[key]) else f"{float(row[key]):,.{digits}f}"

    return {
        "study": row["study"],
        "patient": row["patient"],
        "page": f"write_study_page/{row['study']}.html" if has_page else "",
        "excluded": row["status"] == EXCLUDED,
        "lesions": number("lesions", 0),
        "mtv_ml": number("mtv_ml", 1),
        "tlg": number("tlg", 1),
        "suv_max": number("suv_max", 1),
        "largest_distance_mm": number("largest_distance_mm", 0),
        "look": "" if pd.isna(row["look"]) else row["look"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--index", type=Path, required=True, help="studies.tsv of the index")
    parser.add_argument("--excluded", type=Path, required=True, help="excluded.tsv of the index")
    parser.add_argument("--package", type=Path, required=True, help="package.json, unpacked")
    parser.add_argument("--described", type=Path, required=True, help="folder of describe_lesions")
    parser.add_argument(
        "--template", type=Path, required=True, help="HTML, study_page.css beside it"
    )
    parser.add_argument("--table", type=Path, required=True, help="studies.tsv to write")
    parser.add_argument("--output", type=Path, required=True, help="page (HTML)")
    write_study_list(**vars(parser.parse_args()))


if __name__ == "__main__":
    with exit_on_error():
        main()
