"""The digest of a folder's files: what changes it and what does not."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from petct.tree_digest import digest_tree

DEEP = "a/b/c/d/e/PT/1.dcm"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "studies"
    for name in (DEEP, "a/CT/1.dcm", "b/SUV.nii.gz"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"content")
        os.utime(folder / name, ns=(10, 10))
    return folder


def edit_in_place(root: Path) -> None:
    """Another content of the same length, as an editor of tags may leave it."""
    times = (root / DEEP).parent.stat()
    with (root / DEEP).open("r+b") as file:
        file.write(b"other")
    os.utime((root / DEEP).parent, ns=(times.st_atime_ns, times.st_mtime_ns))


def edit_with_the_old_time(root: Path) -> None:
    (root / DEEP).write_bytes(b"longer content")
    os.utime(root / DEEP, ns=(10, 10))


def rename_a_folder(root: Path) -> None:
    (root / "a").rename(root / "z")


def add_a_broken_link(root: Path) -> None:
    (root / "b/CT.nii.gz").symlink_to("nowhere")


@pytest.mark.parametrize(
    "change",
    [
        edit_in_place,
        edit_with_the_old_time,
        rename_a_folder,
        add_a_broken_link,
        lambda root: (root / DEEP).unlink(),
        lambda root: (root / "b/CT.nii.gz").touch(),
    ],
)
def test_a_change_at_any_depth_counts(root: Path, change: Callable[[Path], None]) -> None:
    before = digest_tree(root)
    change(root)
    assert digest_tree(root) != before


def test_what_the_index_does_not_read_does_not_count(root: Path) -> None:
    before = digest_tree(root)
    (root / "a/.hidden").write_text("x")
    (root / ".cache").mkdir()
    (root / ".cache/file").touch()
    (root / "empty").mkdir()
    for path in [*root.rglob("*")]:
        if path.is_dir():
            path.touch()
    assert digest_tree(root) == before


def test_the_place_does_not_count_nor_the_number_of_threads(root: Path) -> None:
    before = digest_tree(root)
    moved = root.rename(root.with_name("moved"))
    assert digest_tree(moved) == digest_tree(str(moved), workers=1) == before


def test_links_are_followed_once(root: Path) -> None:
    outside = root.with_name("outside")
    outside.mkdir()
    (root / "link").symlink_to(outside)
    (root / "back").symlink_to(root)
    before = digest_tree(root)
    (outside / "1.dcm").touch()
    assert digest_tree(root) != before


def test_more_files_than_one_task_takes(tmp_path: Path) -> None:
    for number in range(1200):
        (tmp_path / f"{number}.dcm").touch()
    before = digest_tree(tmp_path)
    os.utime(tmp_path / "1199.dcm", ns=(5, 5))
    assert digest_tree(tmp_path) != before


def test_what_cannot_be_read_counts_by_its_path(tmp_path: Path) -> None:
    before = digest_tree(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    assert digest_tree(tmp_path) != before
    assert digest_tree(tmp_path / "absent") != before
