"""Peers' packages are installed from their pins, or the reason why not is told."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from install_peers import install_peers
from petct.errors import PetctError


def make_package(folder: Path, version: str) -> Path:
    """The source of a package named ``runner``, which pip can build without a network."""
    package = folder / f"runner-{version}.dist-info"
    package.mkdir(parents=True)
    (folder / "runner.py").write_text("speed = 1\n")
    (package / "METADATA").write_text(f"Metadata-Version: 2.1\nName: runner\nVersion: {version}\n")
    (package / "WHEEL").write_text(
        "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    (package / "RECORD").write_text("")
    wheel = folder.parent / f"runner-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path in folder.rglob("*"):
            if path.is_file():
                archive.write(path, str(path.relative_to(folder)))
    return wheel


def test_versions_are_told_and_older_ones_go(tmp_path: Path) -> None:
    pins, output = tmp_path / "pins.txt", tmp_path / "peers/peers.json"
    for version in ("1.0", "2.0"):
        pins.write_text(f"{make_package(tmp_path / version, version)}\n")
        install_peers(pins, output)
        assert json.loads(output.read_text()) == {"versions": {"runner": version}}
        assert (tmp_path / "peers/packages/runner.py").exists()


def test_what_cannot_be_installed_is_named(tmp_path: Path) -> None:
    pins = tmp_path / "pins.txt"
    pins.write_text(f"{tmp_path}/nowhere-1.0-py3-none-any.whl\n")
    with pytest.raises(PetctError, match=r"cannot be installed from .*pins\.txt: .*nowhere"):
        install_peers(pins, tmp_path / "peers.json")
    assert not (tmp_path / "peers.json").exists()
