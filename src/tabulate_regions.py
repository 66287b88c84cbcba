"""Put together what the boxes of every two-step experiment cost and miss."""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from petct.command_line import exit_on_error
from petct.manifests import whole_table
from petct.provenance import save_origin

COLUMNS = [
    "strategy", "model", "cohort", "fold", "study", "origin", "boxes", "boxes_ml", "body_ml",
    "lesions_reference", "lesions_missed", "reference_outside_ml",
]  # fmt: skip


def tabulate_regions(regions: list[Path], output: Path) -> None:
    """Write one row per study and experiment; the experiment is in each table's path.

    ``.../<strategy>/<model>/<cohort>/fold-<fold>/regions.tsv``. Without tables, only the header.
    """
    tables = [pd.DataFrame(columns=COLUMNS)]
    for path in regions:
        strategy, model, cohort, fold = path.parts[-5:-1]
        tables.append(
            pd.read_csv(
                whole_table(path), sep="\t", dtype={"study": str}, keep_default_na=False
            ).assign(
                strategy=strategy, model=model, cohort=cohort, fold=int(fold.removeprefix("fold-"))
            )
        )
    rows = [table[COLUMNS] for table in tables if len(table)] or tables
    together = pd.concat(rows).sort_values(["strategy", "model", "cohort", "study"])
    output.parent.mkdir(parents=True, exist_ok=True)
    together.to_csv(output, sep="\t", index=False)
    for name, part in together.groupby(["strategy", "model", "cohort"]):
        print(
            f"{' '.join(map(str, name))}: {part['lesions_missed'].sum()} of"
            f" {part['lesions_reference'].sum()} lesions outside the boxes, which fill"
            f" {100 * part['boxes_ml'].sum() / part['body_ml'].sum():.0f} % of the body's box"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--regions", type=Path, nargs="*", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--code", required=True, help="digest of the code")
    arguments = parser.parse_args()
    tabulate_regions(arguments.regions, arguments.output)
    save_origin(arguments.output, "tabulate_regions", arguments.code, None, arguments.regions)


if __name__ == "__main__":
    with exit_on_error():
        main()
