"""What stands for a study and its patient in every result: their own names, or salted hashes.

With hashed keys an index entry is the only place that leads back to the original: it holds the
paths of the files, so the folder of entries is the crosswalk, to be kept as the studies are. All
other results can then be passed on.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from petct.errors import PetctError

ROLES = ("pet", "ct", "label", "other")
# A number has one dot; the standard's own UIDs, as of a kind of object, name nobody.
DICOM_UID = re.compile(r"(?<![\w.])(?!1\.2\.840\.10008\.)[0-2](?:\.\d+){2,}\b")


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


def names_by_role(key: str, files: Mapping[str, Iterable[Path]]) -> dict[str, str]:
    """``<key>/<role>/<n>`` by path, of a study's files by role (pet, ct, label, other).

    n counts from 1 in the sorted list of the study's files of that role.
    """
    return {
        path: f"{key}/{role}/{n}"
        for role in ROLES
        for n, path in enumerate(sorted(map(str, files.get(role, ()))), 1)
    }


def without_paths(message: str, key: str, folder: str, names: Mapping[str, str]) -> str:
    """A message in which ``names`` stand for the paths of files, and ``key`` for their folder."""
    for path in sorted(names, key=len, reverse=True):
        message = message.replace(path, names[path])
    # Also what lies in the folder and is not among the files.
    return re.sub(re.escape(folder) + r"(?:/[^\s,;:'\"]*)?", key, message)


def shown_file(entry: Mapping[str, Any], path: str) -> str:
    """How a file of a study is named to people: its path, or <study>/<role>/<n> if keys are hashed.

    n counts from 1 in the entry's sorted list of the files of that role; what is not in the entry
    is <study>/other.
    """
    if not entry["hashed"]:
        return path
    if path == entry["folder"]:
        return str(entry["study"])
    return _names(entry).get(path, f"{entry['study']}/other")


def shown_text(entry: Mapping[str, Any], message: str) -> str:
    """A message without UIDs and without the paths of the study, if keys are hashed."""
    if not entry["hashed"]:
        return message
    shown = without_paths(message, entry["study"], entry["folder"], _names(entry))
    return DICOM_UID.sub("(uid)", shown)


def _names(entry: Mapping[str, Any]) -> dict[str, str]:
    roles = {role: (entry[role] or {}).get("files", []) for role in ("pet", "ct", "label")}
    return names_by_role(entry["study"], {role: map(Path, files) for role, files in roles.items()})
