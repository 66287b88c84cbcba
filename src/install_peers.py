"""Install the packages that the benchmark alone needs, into a folder that nothing else reads."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from petct.command_line import exit_on_error
from petct.errors import PetctError
from petct.manifests import write_json


def install_peers(requirements: Path, output: Path) -> None:
    """Install the pins of ``requirements`` from the package index beside ``output``.

    ``output`` gets each package's version. Contestants find the packages with the folder's
    ``packages`` on their PYTHONPATH. Raises PetctError if they cannot be installed.
    """
    folder = output.parent / "packages"
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # Without dependencies: the environment has them, and must stay the one that we run on.
    command += ["--no-deps", "--target", str(folder), "--requirement", str(requirements)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        errors = [line for line in result.stderr.splitlines() if "ERROR" in line]
        reason = errors[0] if errors else "pip failed"
        raise PetctError(f"the benchmark's peers cannot be installed from {requirements}: {reason}")
    found = metadata.distributions(path=[str(folder)])
    write_json(output, {"versions": {one.metadata["Name"]: one.version for one in found}})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requirements", type=Path, required=True, help="pins, as pip reads them")
    parser.add_argument("--output", type=Path, required=True, help="peers.json")
    arguments = parser.parse_args()
    install_peers(arguments.requirements, arguments.output)


if __name__ == "__main__":
    with exit_on_error():
        main()
