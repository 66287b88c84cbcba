"""What every script's command line shares: a readable end when something is wrong."""

from __future__ import annotations

import errno
import os
import re
import resource
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from petct.errors import PetctError, advise_to_remake

_NO_SPACE = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota of disk space is used up",
    errno.EFBIG: "a file grew beyond the largest size that is allowed (ulimit -f)",
}
_NO_PERMISSION = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_ANSWER = (errno.EIO, errno.ESTALE)
# What to lower when a GPU's memory is too small, by script.
_LOWER = {
    "train_network": (
        "lower training.batch_size or the patch_zyx of the strategy or model, leave"
        " training.precision at auto, or spread the batch over more GPUs (models.<name>.gpus)"
    ),
    "predict_network": "lower inference.windows_per_batch",
    "train_nnunet": (
        "lower batch_size or gpu_memory_gb in the model's arguments, or choose a smaller planner"
    ),
    "predict_nnunet": (
        "lower gpu_memory_gb in the model's arguments, or choose a smaller planner, and train anew"
    ),
}


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Turn an error that a person can mend into one line on standard error and exit status 1."""
    try:
        yield
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        raise SystemExit(1) from None


def explain(error: Exception) -> str | None:
    """What to do about a PetctError, a lack of space or memory, or a file that is not there.

    None for what is a mistake of ours: its traceback says more.
    """
    if isinstance(error, PetctError):
        return str(error)
    if isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error):
        return _explain_memory()
    if _is_gpu_memory(error):
        return _explain_gpu_memory(error)
    code = _error_number(error)
    file = getattr(error, "filename", None)
    path = Path(os.fsdecode(file)) if isinstance(file, str | bytes) else None
    if code in _NO_SPACE:
        return _explain_space(_NO_SPACE[code], path or _output())
    if code in _NO_PERMISSION:
        return _explain_permission(code, path or _output())
    if code in _NO_ANSWER:
        where = path or _output()
        return f"the file system of {where} fails: {os.strerror(code)}. Run again once it works."
    if isinstance(error, FileNotFoundError) and path and (advice := advise_to_remake(path)):
        return f"{path} is missing{advice}"
    return None


def _error_number(error: Exception) -> int:
    """The system's number of an error, which libraries leave in words; 0 if there is none."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    found = re.search(r"\(os error (\d+)\)", str(error))
    if found:
        return int(found[1])
    # numpy and PyTorch on a write that fell short.
    short = r"^\d+ requested and \d+ written$|inline_container|PytorchStreamWriter failed"
    return errno.ENOSPC if re.search(short, str(error)) else 0


def _explain_space(what: str, path: Path) -> str:
    places = dict.fromkeys((_folder_of(path), Path(tempfile.gettempdir())))
    free = "; ".join(f"{place} has {_free(place)}" for place in places)
    return (
        f"{what}: {path} could not be written ({free}). Make room and run again: what is finished"
        " stays, this job is repeated."
    )


def _free(folder: Path) -> str:
    found = os.statvfs(folder)
    free, size = (found.f_frsize * blocks / 1e9 for blocks in (found.f_bavail, found.f_blocks))
    files = ", but room for no more files" if found.f_files and not found.f_favail else ""
    return f"{free:.3f} of {size:.3f} GB free{files}"


def _explain_permission(code: int, path: Path) -> str:
    if code == errno.EROFS:
        return f"{path} lies on a file system that is read-only; mount it for writing"
    place = path if path.exists() else _folder_of(path)
    found = place.stat()
    return (
        f"no permission for {path}: {place} belongs to user {found.st_uid}, group {found.st_gid},"
        f" with mode {found.st_mode & 0o777:o}; this process runs as user {os.geteuid()}, group"
        f" {os.getegid()}"
    )


def _folder_of(path: Path) -> Path:
    """The folder that ``path`` is in or would be in, as far as there is one."""
    return next(folder for folder in path.absolute().parents if folder.is_dir())


def _output() -> Path:
    """What the script was told to write."""
    for option in ("--output", "--output-folder"):
        if option in sys.argv[1:-1]:
            return Path(sys.argv[sys.argv.index(option) + 1])
    return Path.cwd() / "results"


def _is_gpu_memory(error: Exception) -> bool:
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "_STATUS_ALLOC_FAILED" in str(error)
    )


def _explain_gpu_memory(error: Exception) -> str:
    wanted = re.search(r"Tried to allocate .*? is free\.", str(error), re.S)
    what = f" ({wanted[0].rstrip('.')})" if wanted else ""
    lower = _LOWER.get(Path(sys.argv[0]).stem, "take a GPU with more memory")
    return f"the GPU's memory is too small{what}: {lower}, or see what else runs on this GPU"


def _explain_memory() -> str:
    most_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return (
        f"out of memory; this job had {most_gb:.1f} GB and asked for more. Run fewer jobs at"
        " once (--cores, --resources mem_mb=...) or give the rule more (--set-resources"
        " <rule>:mem_mb=...)"
    )
