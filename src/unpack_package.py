"""Unpack a model package where apply reads it, after a look at whether it is whole and harmless."""

from __future__ import annotations

import argparse
from pathlib import Path

from petct.command_line import exit_on_error
from petct.packages import name_experiment, unpack_package


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--package", type=Path, required=True, help="the package, .zip")
    parser.add_argument("--output", type=Path, required=True, help="package.json")
    arguments = parser.parse_args()
    description = unpack_package(arguments.package, arguments.output.parent)
    experiment = name_experiment(description, " / ")
    print(f"{experiment}, trained on {description['data']['training_studies']} studies")


if __name__ == "__main__":
    with exit_on_error():
        main()
