"""What lets a job go on after it was killed: a key that tells stale state, and a lock.

State lies in undeclared files beside a job's outputs, which Snakemake neither creates nor deletes.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def job_key(code: str, settings: Any, *inputs: Path | str) -> str:
    """SHA-256 of what fixes a job's result; state under another key is stale.

    ``code`` is the digest of the script's code, ``settings`` any JSON value, ``inputs`` are small
    files, which count by content and order and not by name, or digests of what is larger.
    """
    sha = hashlib.sha256(json.dumps([code, settings], sort_keys=True).encode())
    for value in inputs:
        content = value.read_bytes() if isinstance(value, Path) else value.encode()
        sha.update(hashlib.sha256(content).digest())
    return sha.hexdigest()


@contextmanager
def hold_lock(folder: Path) -> Iterator[int]:
    """Keep a second process on the same job out of ``folder`` until the block ends; it waits.

    Yields the lock's file descriptor: a program that inherits it holds the lock as well. A killed
    process holds none: the system lets go of it. The file ``lock`` stays, since removing it would
    let two processes hold locks on two files of that name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as file:
        # A forked worker that outlives a killed parent would go on holding the lock.
        os.register_at_fork(after_in_child=file.close)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another process is at work in {folder}; waiting until it is done", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            # Some cluster file systems have no locks; Snakemake allows one job anyway.
        yield file.fileno()


def end_with_parent() -> None:
    """Have the system kill this process when the one that started it ends, be it by a kill.

    For workers that would otherwise wait for ever for a parent that is no more. Linux alone can.
    """
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
