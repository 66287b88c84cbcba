"""What stands for a study and its patient in every result: their own names, or salted hashes.

With hashed keys an index entry is the only place that leads back to the original: it holds the
paths of the files. All other results can then be passed on.
"""

from __future__ import annotations

import hmac
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

from petct.errors import PetctError

ROLES = ("pet", "ct", "label")
DICOM_UID = re.compile(r"\b[0-2](?:\.\d+){4,}\b")


def read_salt(file: Path | None) -> bytes:
    """The secret that hashes are salted with: the file's whole content. Raises PetctError."""
    if file is None:
        raise PetctError("hashed keys need reading.salt_file: a file with a secret of your own")
    try:
        salt = file.read_bytes().strip()
    except OSError as error:
        raise PetctError(f"salt file {file} cannot be read: {error.strerror}") from error
    if not salt:
        raise PetctError(f"salt file {file} is empty, expected a secret")
    return salt


def hashed_key(salt: bytes, kind: str, original: str) -> str:
    """The first 12 hexadecimal digits of HMAC-SHA256(salt, "<kind>:<original>")."""
    return hmac.new(salt, f"{kind}:{original}".encode(), sha256).hexdigest()[:12]


def shown_file(entry: dict[str, Any], path: str) -> str:
    """How a file of a study is named to people: its path, or <study>/<role>/<n> if keys are hashed.

    n counts from 1 in the entry's sorted list of the files of that role.
    """
    if not entry["hashed"]:
        return path
    for role in ROLES:
        files = (entry[role] or {}).get("files", [])
        if path in files:
            return f"{entry['study']}/{role}/{files.index(path) + 1}"
    return f"{entry['study']}/other"


def withhold(entry: dict[str, Any], message: str) -> str:
    """A message without UIDs and without the paths of the study, if keys are hashed."""
    if not entry["hashed"]:
        return message
    for role in ROLES:
        for path in (entry[role] or {}).get("files", []):
            message = message.replace(path, shown_file(entry, path))
    return DICOM_UID.sub("(uid)", message.replace(entry["folder"], entry["study"]))
