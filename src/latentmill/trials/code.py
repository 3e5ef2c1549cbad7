"""The source files that a module imports, which a trial's fingerprint and DVC's `deps` must cover."""

import ast
import hashlib
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).parents[2]  # the folder that holds the package `latentmill`
MODULE = re.compile(r"latentmill(\.\w+)+")


@dataclass(frozen=True)
class Source:
    """What a file contributes to a fingerprint."""

    code: str  # without comments, docstrings and layout
    imported: tuple[str, ...]  # absolute names, not all of modules
    named: tuple[str, ...]  # modules of this package in string literals


def imported_files(*starts: Path, excluding: Collection[Path] = (), by_name: bool = False) -> set[Path]:
    """The package's source files that `starts` import, directly or not, `starts` included.

    Left out are the files `excluding`, which are not followed, and an `__init__.py` with nothing but a docstring, which
    has no effect. `by_name` also follows module names in string literals, for `importlib.import_module`.
    """
    found: set[Path] = set()
    waiting = list(starts)
    while waiting:
        path = waiting.pop()
        if path not in found and path not in excluding and _has_code(path):
            found.add(path)
            source = _source(path)
            names = source.imported + (source.named if by_name else ())
            waiting += [file for name in names for file in _files(name)]
    return found


def imported_packages(paths: Iterable[Path]) -> set[str]:
    """The names of all packages that these files import, this one among them."""
    return {name.partition(".")[0] for path in paths for name in _source(path).imported}


def digest(paths: Iterable[Path]) -> str:
    """SHA-256 of the files without comments, docstrings and layout."""
    hashed = hashlib.sha256()
    for path in sorted(paths):
        hashed.update(f"{path.relative_to(SOURCE)}\n{_source(path).code}\n".encode())
    return hashed.hexdigest()


def _source(path: Path) -> Source:
    package = path.relative_to(SOURCE).parent.parts if path.is_relative_to(SOURCE) else ()
    return _parsed(path.read_text(encoding="utf-8"), package)


@cache
def _parsed(text: str, package: tuple[str, ...]) -> Source:
    """`package` is that of the file, to which relative imports refer."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    code = ast.unparse(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []  # never runs
    texts = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return Source(code, tuple(_imported_names(tree, package)), tuple(text for text in texts if MODULE.fullmatch(text)))


def _imported_names(tree: ast.Module, package: tuple[str, ...]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join([*parents, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)  # where it is a module


def _files(name: str) -> Iterable[Path]:
    """The files that run when the module `name` is imported, its packages' `__init__.py` among them."""
    parts = name.split(".")
    stems = [SOURCE.joinpath(*parts[:depth]) for depth in range(1, len(parts) + 1)]
    candidates = [file for stem in stems for file in (stem / "__init__.py", stem.with_suffix(".py"))]
    return [file for file in candidates if parts[0] == "latentmill" and file.exists()]


def _has_code(path: Path) -> bool:
    return path.name != "__init__.py" or bool(_source(path).code)
