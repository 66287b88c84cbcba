"""Hashed keys against another implementation, and messages without paths and UIDs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from petct.errors import PetctError
from petct.study_keys import (
    hashed_key,
    names_by_role,
    read_salt,
    shown_file,
    shown_text,
    without_paths,
)

ENTRY: dict[str, Any] = {
    "study": "0123456789ab",
    "hashed": True,
    "folder": "/data/P1/visit",
    "pet": {"series": "x", "files": ["/data/P1/visit/a", "/data/P1/visit/aa"]},
    "ct": {"series": "", "files": []},
    "label": {"kind": "seg", "files": ["/data/P1/visit/seg"], "refers_to": "pet"},
}


def test_key_is_the_start_of_an_hmac() -> None:
    # printf 'study:P1' | openssl dgst -sha256 -hmac Jefe
    assert hashed_key(b"Jefe", "study", "P1") == "c16cc365e7e0"
    others = {hashed_key(b"Jefe", "patient", "P1"), hashed_key(b"Jef", "study", "P1")}
    assert len(others | {"c16cc365e7e0"}) == 3


def test_salt_is_what_the_file_holds(tmp_path: Path) -> None:
    file = tmp_path / "salt"
    file.write_text(" secret\n")
    assert read_salt(file) == b"secret"


def test_no_salt(tmp_path: Path) -> None:
    with pytest.raises(PetctError, match=r"reading\.salt_file"):
        read_salt(None)
    with pytest.raises(PetctError, match="cannot be read"):
        read_salt(tmp_path / "absent")
    (tmp_path / "salt").write_text("\n")
    with pytest.raises(PetctError, match="is empty, expected a secret"):
        read_salt(tmp_path / "salt")


def test_files_are_counted_within_their_role() -> None:
    files = {"pet": [Path("/b"), Path("/a")], "other": [Path("/c")]}
    assert names_by_role("k", files) == {"/a": "k/pet/1", "/b": "k/pet/2", "/c": "k/other/1"}


def test_file_of_an_entry() -> None:
    assert shown_file(ENTRY, "/data/P1/visit/aa") == "0123456789ab/pet/2"
    assert shown_file(ENTRY, "/data/P1/visit/seg") == "0123456789ab/label/1"
    assert shown_file(ENTRY, "/data/P1/visit") == "0123456789ab"
    assert shown_file(ENTRY, "/elsewhere") == "0123456789ab/other"
    assert shown_file(ENTRY | {"label": None}, "/data/P1/visit/seg") == "0123456789ab/other"
    assert shown_file(ENTRY | {"hashed": False}, "/elsewhere") == "/elsewhere"


def test_message_of_an_entry() -> None:
    message = "PT series 1.2.840.3 in /data/P1/visit/aa: 0.5 of 1.25 g, 3.0 mm (2.25.77), not "
    shown = "PT series (uid) in 0123456789ab/pet/2: 0.5 of 1.25 g, 3.0 mm ((uid)), not "
    standard = "1.2.840.10008.5.1.4.1.1.128"
    message, shown = message + standard, shown + standard
    assert shown_text(ENTRY, message) == shown
    assert shown_text(ENTRY | {"hashed": False}, message) == message


def test_whatever_lies_in_the_folder_is_hidden() -> None:
    names = {"/d/P1/a": "k/pet/1"}
    said = "not /d/P1/sub/x.dcm, /d/P1 and '/d/P1/a'"
    assert without_paths(said, "k", "/d/P1", names) == "not k, k and 'k/pet/1'"
