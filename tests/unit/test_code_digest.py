"""The digest of a script's code: what changes it and what does not."""

from pathlib import Path

import pytest

from petct.code_digest import _parse, digest_script


def digest(root: Path) -> str:
    _parse.cache_clear()
    return digest_script(root / "run.py", root)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "package").mkdir()
    (tmp_path / "package/__init__.py").write_text("")
    (tmp_path / "package/deep.py").write_text("VALUE = 1\n")
    (tmp_path / "package/near.py").write_text("from package.deep import VALUE\n")
    (tmp_path / "package/other.py").write_text("UNUSED = 1\n")
    (tmp_path / "run.py").write_text('"""What it does."""\nimport json\nfrom package import near\n')
    return tmp_path


def test_comments_docstrings_and_layout_do_not_count(root: Path) -> None:
    before = digest(root)
    (root / "run.py").write_text('"""Words."""\n\n# why\nimport json\nfrom package import near\n')
    assert digest(root) == before


@pytest.mark.parametrize("changed", ["run.py", "package/near.py", "package/deep.py"])
def test_code_counts_wherever_it_is_imported_from(root: Path, changed: str) -> None:
    before = digest(root)
    path = root / changed
    path.write_text(path.read_text() + "x = 2\n")
    assert digest(root) != before


def test_a_module_that_is_not_imported_does_not_count(root: Path) -> None:
    before = digest(root)
    (root / "package/other.py").write_text("UNUSED = 2\n")
    assert digest(root) == before


def test_a_string_that_is_no_docstring_counts(root: Path) -> None:
    (root / "run.py").write_text('x = 1\n"text"\n')
    before = digest(root)
    (root / "run.py").write_text('x = 1\n"other"\n')
    assert digest(root) != before


def test_relative_imports_are_refused(root: Path) -> None:
    (root / "run.py").write_text("from . import near\n")
    with pytest.raises(ValueError, match="relative import in line 1"):
        digest(root)
