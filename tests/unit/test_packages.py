"""Packages come back as they were packed; what is broken, newer or strange is told in one line."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from petct.errors import PetctError
from petct.manifests import read_json, write_json
from petct.packages import check_plans, unpack_package, write_package

PLANS: dict[str, Any] = {
    "configurations": {
        "3d_fullres": {
            "architecture": {
                "network_class_name": (
                    "dynamic_network_architectures.architectures.unet.PlainConvUNet"
                ),
                "arch_kwargs": {"conv_op": "torch.nn.modules.conv.Conv3d", "dropout_op": None},
                "_kw_requires_import": ["conv_op", "dropout_op"],
            }
        }
    }
}


def make_package(folder: Path) -> Path:
    source = folder / "source"
    write_json(source / "preprocessing.json", {"folds": 2})
    write_json(source / "final/fold-0/model.json", {"network": "UNet"})
    write_json(source / "final/fold-0/plans.json", PLANS)
    (source / "final/fold-0/last.safetensors").write_bytes(b"\0" * 1000)
    write_package(source, {"experiment": {"model": "unet"}}, folder / "package.zip")
    return folder / "package.zip"


def change(package: Path, name: str, content: bytes | None, target: str = "") -> Path:
    """The package with one file replaced, left out (None) or added under another name."""
    changed = package.with_name("changed.zip")
    with zipfile.ZipFile(package) as old, zipfile.ZipFile(changed, "w") as new:
        for entry in old.namelist():
            if entry != name:
                new.writestr(entry, old.read(entry))
        if content is not None:
            new.writestr(target or name, content)
    return changed


def test_what_was_packed_comes_back(tmp_path: Path) -> None:
    package = make_package(tmp_path)
    told = unpack_package(package, tmp_path / "out")
    assert told["experiment"] == {"model": "unet"} and told["format"] == 1
    assert read_json(tmp_path / "out/package.json") == told
    for name in told["files"]:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "source" / name).read_bytes()
    first = package.read_bytes()
    assert make_package(tmp_path).read_bytes() == first


def test_networks_of_an_earlier_package_go(tmp_path: Path) -> None:
    stale = tmp_path / "out/coarse/fold-0/model.json"
    write_json(stale, {})
    unpack_package(make_package(tmp_path), tmp_path / "out")
    assert not stale.exists()


@pytest.mark.parametrize(
    ("name", "content", "target", "message"),
    [
        ("package.json", None, "", "holds no package.json; expected what `snakemake package`"),
        ("package.json", b"{", "", "package.json is damaged"),
        ("package.json", b"[]", "", "package.json is damaged"),
        ("package.json", b'{"format": 2, "files": {}}', "", "is of format 2, expected 1; update"),
        ("package.json", b'{"format": 0, "files": {}}', "", "of format 0, expected 1; make the p"),
        ("preprocessing.json", b"{}", "", "preprocessing.json is not what package.json was"),
        ("final/fold-0/model.json", None, "", "lacks final/fold-0/model.json"),
        ("", b"", "../evil.json", "holds '../evil.json', which has no place"),
        ("", b"", "/etc/evil", "holds '/etc/evil', which has no place"),
        ("", b"", "final/fold-0/code.py", "holds 'final/fold-0/code.py', which has no place"),
        ("", b"", "final/fold-0/best.safetensors", "best.safetensors is not what package.json"),
    ],
)
def test_what_is_wrong_with_a_package_is_told(
    tmp_path: Path, name: str, content: bytes | None, target: str, message: str
) -> None:
    package = change(make_package(tmp_path), name, content, target)
    with pytest.raises(PetctError, match=r"changed\.zip") as error:
        unpack_package(package, tmp_path / "out")
    assert message in str(error.value)
    assert not (tmp_path / "out/package.json").exists()


def test_a_file_that_is_no_package(tmp_path: Path) -> None:
    package = make_package(tmp_path)
    cut = tmp_path / "cut.zip"
    cut.write_bytes(package.read_bytes()[:-200])
    with pytest.raises(PetctError, match=r"cut\.zip is not a whole zip archive"):
        unpack_package(cut, tmp_path / "out")
    with pytest.raises(PetctError, match=r"nowhere\.zip: there is no such file"):
        unpack_package(tmp_path / "nowhere.zip", tmp_path / "out")
    content = bytearray(package.read_bytes())
    content[content.index(b"\0" * 1000) + 500] = 1
    cut.write_bytes(content)
    with pytest.raises(PetctError, match=r"cut\.zip is not a whole zip archive"):
        unpack_package(cut, tmp_path / "out")


def test_plans_name_networks_and_layers_alone() -> None:
    check_plans(PLANS, "here")
    for key, value in (("network_class_name", "os.system"), ("conv_op", "subprocess.Popen")):
        plans = json.loads(json.dumps(PLANS))
        architecture = plans["configurations"]["3d_fullres"]["architecture"]
        (architecture if key in architecture else architecture["arch_kwargs"])[key] = value
        with pytest.raises(PetctError, match=value):
            check_plans(plans, "here")


def test_nothing_else_is_packed(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/notes.txt").touch()
    with pytest.raises(PetctError, match=r"notes\.txt has no place"):
        write_package(tmp_path / "source", {}, tmp_path / "package.zip")
