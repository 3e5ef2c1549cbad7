"""The dependencies of a stage must not change while it runs.

DVC records the dependencies of a stage when it ends, so after an edit in the meantime a stale result would count as up
to date.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from latentmill.errors import InputError

PIPELINE, PARAMS = Path("dvc.yaml"), Path("params.yaml")
CODE = (".py", ".j2", ".yaml", ".txt")  # small files, compared by content; others by size, time and inode


@contextmanager
def steady(stage: str, key: str = "") -> Iterator[None]:
    """Within the block the params and files that `stage` of dvc.yaml depends on must not change.

    `key` is that of a `foreach` stage. Without a dvc.yaml, as in a job on a cluster, nothing is compared.

    Raises:
        InputError: they have changed.
    """
    if not PIPELINE.exists():
        yield
        return
    before = _dependencies(stage, key)
    yield
    after = _dependencies(stage, key)
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if changed:
        others = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        rule = f"what the stage {stage} is made of must stay the same while it runs"
        raise InputError(f"{rule}, but {changed[0]}{others} changed: run again")


def _dependencies(stage: str, key: str) -> dict[str, Any]:
    """The params by value and the files by content or stamp, by name."""
    definition = YAML(typ="safe").load(PIPELINE)["stages"][stage]
    definition = definition.get("do", definition)
    params = YAML(typ="safe").load(PARAMS) if PARAMS.exists() else None
    found = {f"{name} in {PARAMS}": _param(params, name) for name in definition.get("params", [])}
    for dep in definition["deps"]:
        path = Path(dep.replace("${key}", key))
        files = path.rglob("*") if path.is_dir() else [path]
        found |= {str(file): _fingerprint(file) for file in files if not _is_ignored(file) and not file.is_dir()}
    return found


def _is_ignored(path: Path) -> bool:
    """Bytecode, and hidden files, such as those of editors."""
    return "__pycache__" in path.parts or path.name.startswith(".")


def _param(params: Any, name: str) -> Any:
    for part in name.split("."):
        params = params.get(part) if isinstance(params, dict) else None
    return params


def _fingerprint(path: Path) -> Any:
    """None where it does not exist."""
    try:
        if path.suffix in CODE:
            return hashlib.sha256(path.read_bytes()).hexdigest()
        found = path.stat()
        return found.st_size, found.st_mtime_ns, found.st_ino
    except FileNotFoundError:
        return None
