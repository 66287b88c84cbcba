"""A fingerprint of the code that a script can execute.

Snakemake does not see an edit in a file that a ``shell:`` line calls, nor in a module it imports.
A rule therefore passes this digest as a parameter: it changes with the script or with any
first-party module that the script imports, directly or not, and ignores comments, docstrings and
layout, which cannot change a result.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from pathlib import Path


def digest_script(script: Path, source_root: Path) -> str:
    """SHA-256 over the syntax trees of ``script`` and its first-party imports (12 hex digits).

    ``source_root`` is the folder that first-party imports start from.
    """
    seen: set[Path] = set()
    open_files = [script]
    while open_files:
        path = open_files.pop()
        if path not in seen:
            seen.add(path)
            open_files += _parse(path, source_root)[1]
    sha = hashlib.sha256()
    for path in sorted(seen):
        sha.update(f"{path.relative_to(source_root)}\n{_parse(path, source_root)[0]}\n".encode())
    return sha.hexdigest()[:12]


@functools.cache
def _parse(path: Path, source_root: Path) -> tuple[str, list[Path]]:
    """The bare syntax tree of a module as text, and the first-party files it imports."""
    tree = ast.parse(path.read_text(), filename=str(path))
    imported: list[Path] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                imported += _module_files(alias.name, source_root)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"{path}: relative import in line {node.lineno}; use petct.<name>")
            imported += _module_files(node.module or "", source_root)
            for alias in node.names:
                imported += _module_files(f"{node.module}.{alias.name}", source_root)
        elif isinstance(
            node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        ) and isinstance(ast.get_docstring(node, clean=False), str):
            node.body = node.body[1:]
    return ast.dump(tree), imported


def _module_files(name: str, source_root: Path) -> list[Path]:
    """The files that ``import name`` executes, if they lie under ``source_root``."""
    parts = name.split(".")
    candidates = [
        source_root.joinpath(*parts[: n + 1]) / "__init__.py" for n in range(len(parts))
    ] + [source_root.joinpath(*parts).with_suffix(".py")]
    return [path for path in candidates if path.is_file()]
