"""Small JSON files that stand for bulky results: written last, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from petct.errors import damaged


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` with sorted keys, atomically: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".tmp")
    draft.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")
    os.replace(draft, path)


def read_json(path: Path) -> Any:
    """The value in ``path``; DamagedFileError if the file is not whole."""
    try:
        return json.loads(path.read_text())
    except ValueError:
        raise damaged(path) from None


def whole_table(path: Path) -> Path:
    """``path`` of a table that an earlier job wrote; DamagedFileError if it is not whole."""
    content = path.read_bytes()
    if not content.endswith(b"\n") or b"\0" in content:
        raise damaged(path)
    return path


def digest_arrays(*arrays: np.ndarray, geometry: Any = None) -> str:
    """SHA-256 of arrays (values, types and shapes) and of any JSON value beside them."""
    sha = hashlib.sha256(json.dumps(geometry, sort_keys=True).encode())
    for array in arrays:
        sha.update(f"{array.dtype.str}{array.shape}".encode())
        sha.update(np.ascontiguousarray(array).data)
    return sha.hexdigest()
