"""Join the scores of all experiments and folds: one row per study and experiment."""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from petct.command_line import exit_on_error
from petct.errors import PetctError
from petct.manifests import whole_table
from petct.metrics import EXPERIMENT_COLUMNS
from petct.provenance import save_origin


def tabulate_metrics(scores: list[Path], output: Path) -> None:
    """Write the rows of all ``scores``, sorted by strategy, model, cohort and study.

    Every cell is copied as it stands; an undefined value is "nan", which pandas reads as NaN.
    Raises PetctError if a study appears twice in one experiment, or if the columns differ.
    """
    tables = [
        pd.read_csv(whole_table(path), sep="\t", dtype=str, keep_default_na=False)
        for path in scores
    ]
    for path, table in zip(scores, tables, strict=True):
        if list(table.columns) != list(tables[0].columns):
            raise PetctError(
                f"{path}: got columns {', '.join(table.columns)}, expected those of {scores[0]}: "
                f"{', '.join(tables[0].columns)}"
            )
    joined = pd.concat(tables, ignore_index=True)
    keys = [*EXPERIMENT_COLUMNS, "study"]
    repeated = joined[joined.duplicated(keys)]
    if len(repeated):
        *experiment, study = (repeated.iloc[0][key] for key in keys)
        raise PetctError(
            f"study {study} appears more than once in experiment {' / '.join(experiment)}, "
            "expected one row per study and experiment"
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    joined.sort_values(keys).to_csv(output, sep="\t", index=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scores", type=Path, nargs="+", required=True, help="tables of scores")
    parser.add_argument("--output", type=Path, required=True, help="metrics.tsv")
    parser.add_argument("--code", required=True, help="digest of the code")
    arguments = parser.parse_args()
    tabulate_metrics(arguments.scores, arguments.output)
    save_origin(arguments.output, "tabulate_metrics", arguments.code, None, arguments.scores)


if __name__ == "__main__":
    with exit_on_error():
        main()
