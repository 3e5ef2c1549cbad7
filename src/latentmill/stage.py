"""What a stage is made of must stay the same while it runs.

DVC takes note of a stage's dependencies when it ends, so what was edited meanwhile would count as what the outputs are
made of, and a stale result as up to date.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from latentmill.errors import InputError

PIPELINE, PARAMS = Path("dvc.yaml"), Path("params.yaml")
CODE = (".py", ".j2", ".yaml", ".txt")  # small, so that their content is compared; of other files size and times are


@contextmanager
def steady(stage: str, key: str = "") -> Iterator[None]:
    """Within the block the params and files that `stage` of dvc.yaml depends on must not change.

    `key` is that of a stage for each of several. Where there is no dvc.yaml, as in a job on a cluster, nothing
    is compared.

    Raises:
        InputError: they did.
    """
    if not PIPELINE.exists():
        yield
        return
    before = _seen(stage, key)
    yield
    after = _seen(stage, key)
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if changed:
        others = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        rule = f"what the stage {stage} is made of must stay the same while it runs"
        raise InputError(f"{rule}, but {changed[0]}{others} changed: run again")


def _seen(stage: str, key: str) -> dict[str, Any]:
    """By name, what a param is or what a file looks like."""
    definition = YAML(typ="safe").load(PIPELINE)["stages"][stage]
    definition = definition.get("do", definition)
    params = YAML(typ="safe").load(PARAMS) if PARAMS.exists() else None
    found = {f"{name} in {PARAMS}": _param(params, name) for name in definition.get("params", [])}
    for dep in definition["deps"]:
        path = Path(dep.replace("${key}", key))
        files = path.rglob("*") if path.is_dir() else [path]
        found |= {str(file): _look(file) for file in files if not _is_aside(file) and not file.is_dir()}
    return found


def _is_aside(path: Path) -> bool:
    """Bytecode, and what editors leave beside the files that are open in them."""
    return "__pycache__" in path.parts or path.name.startswith(".")


def _param(params: Any, name: str) -> Any:
    for part in name.split("."):
        params = params.get(part) if isinstance(params, dict) else None
    return params


def _look(path: Path) -> Any:
    """None where it is gone."""
    try:
        if path.suffix in CODE:
            return hashlib.sha256(path.read_bytes()).hexdigest()
        found = path.stat()
        return found.st_size, found.st_mtime_ns, found.st_ino
    except FileNotFoundError:
        return None
