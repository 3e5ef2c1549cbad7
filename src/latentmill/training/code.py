"""Which source files a module is made of: what a trial's fingerprint and DVC's `deps` must cover."""

import ast
import hashlib
from collections.abc import Iterable
from pathlib import Path

SOURCE = Path(__file__).parents[2]  # the folder that holds the package `latentmill`


def imported_files(*starts: Path) -> set[Path]:
    """The package's source files that `starts` import, directly or not, `starts` included.

    An `__init__.py` that holds no more than a docstring is left out: it can change nothing.
    """
    found: set[Path] = set()
    waiting = list(starts)
    while waiting:
        path = waiting.pop()
        if path not in found and _has_code(path):
            found.add(path)
            waiting += [file for name in _imported_names(path) for file in _files(name)]
    return found


def digest(paths: Iterable[Path]) -> str:
    """SHA-256 of what the files do: comments, docstrings and layout do not count."""
    hashed = hashlib.sha256()
    for path in sorted(paths):
        hashed.update(f"{path.relative_to(SOURCE)}\n{_without_docstrings(path)}\n".encode())
    return hashed.hexdigest()


def _imported_names(path: Path) -> Iterable[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []  # never runs
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)  # where it is a module


def _files(name: str) -> Iterable[Path]:
    """The files that importing the module `name` runs, its packages' `__init__.py` among them."""
    parts = name.split(".")
    inside = [SOURCE.joinpath(*parts[:depth]) for depth in range(1, len(parts) + 1)]
    candidates = [file for stem in inside for file in (stem / "__init__.py", stem.with_suffix(".py"))]
    return [file for file in candidates if parts[0] == "latentmill" and file.exists()]


def _has_code(path: Path) -> bool:
    return path.name != "__init__.py" or bool(_without_docstrings(path))


def _without_docstrings(path: Path) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.unparse(tree)
