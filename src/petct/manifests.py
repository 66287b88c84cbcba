"""Small JSON files that stand for bulky results: written last, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` with sorted keys, atomically: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".tmp")
    draft.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")
    os.replace(draft, path)


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def digest_arrays(*arrays: np.ndarray, geometry: Any = None) -> str:
    """SHA-256 of arrays (values, types and shapes) and of any JSON value beside them."""
    sha = hashlib.sha256(json.dumps(geometry, sort_keys=True).encode())
    for array in arrays:
        sha.update(f"{array.dtype.str}{array.shape}".encode())
        sha.update(np.ascontiguousarray(array).data)
    return sha.hexdigest()
