"""Manifests are whole or absent, and digests see everything that counts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from petct.errors import DamagedFileError
from petct.manifests import digest_arrays, read_json, whole_table, write_json

VALUES = np.arange(6, dtype=np.int16)


def test_what_is_written_is_read_and_always_the_same_bytes(tmp_path: Path) -> None:
    one, two = tmp_path / "new folder" / "one.json", tmp_path / "two.json"
    write_json(one, {"b": [1, 2.5, None], "a": {"y": True, "x": "µ"}})
    write_json(two, {"a": {"x": "µ", "y": True}, "b": [1, 2.5, None]})
    assert read_json(one) == {"a": {"x": "µ", "y": True}, "b": [1, 2.5, None]}
    assert one.read_bytes() == two.read_bytes()
    assert [path.name for path in one.parent.iterdir()] == ["one.json"]


@pytest.mark.parametrize("value", [float("nan"), {"a": {1, 2}}])
def test_what_cannot_be_written_leaves_the_old_file(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "m.json"
    write_json(path, "old")
    with pytest.raises((ValueError, TypeError)):
        write_json(path, value)
    assert read_json(path) == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["m.json"]


def test_a_crash_while_writing_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.json"
    write_json(path, "old")

    def write_half(self: Path, text: str) -> int:
        with self.open("w") as file:
            file.write(text[: len(text) // 2])
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_text", write_half)
    with pytest.raises(OSError, match="no space left"):
        write_json(path, "a new value")
    assert read_json(path) == "old"


@pytest.mark.parametrize(
    ("arrays", "geometry"),
    [
        ([VALUES + 1], None),
        ([VALUES.astype(np.int32)], None),
        ([VALUES.astype(">i2")], None),
        ([VALUES.view(np.uint16)], None),
        ([VALUES.reshape(2, 3)], None),
        ([VALUES[:3], VALUES[3:]], None),
        ([VALUES, VALUES[:0]], None),
        ([VALUES], {"spacing": [1, 1, 1]}),
    ],
)
def test_a_digest_changes_with(arrays: list[np.ndarray], geometry: Any) -> None:
    assert digest_arrays(*arrays, geometry=geometry) != digest_arrays(VALUES)


def test_a_digest_does_not_depend_on_layout_in_memory_or_order_of_keys() -> None:
    block = np.arange(24, dtype=np.float16).reshape(2, 3, 4)
    reference = digest_arrays(block, geometry={"a": 1, "b": 2})
    assert digest_arrays(np.asfortranarray(block), geometry={"b": 2, "a": 1}) == reference
    assert digest_arrays(block[:, ::-1][:, ::-1], geometry={"a": 1, "b": 2}) == reference
    assert len(reference) == 64


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\0\0\0", b"\xff\xfe"])
def test_a_damaged_manifest_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.json").write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"m\.json is (empty|cut short or garbled)"):
        read_json(tmp_path / "m.json")


@pytest.mark.parametrize("content", [b"", b"a\tb\n1\t", b"a\tb\n\0\0\0\n"])
def test_a_damaged_table_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.tsv"
    path.write_text("a\tb\n")
    assert whole_table(path) == path
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"t\.tsv is (empty|cut short or garbled)"):
        whole_table(path)
