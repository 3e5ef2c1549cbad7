"""What all stages of dvc.yaml have in common: they end with their `dvc`, and their dependencies must not change."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

import latentmill
from latentmill.errors import InputError, one_line_errors
from latentmill.runtime.text import print_anything
from latentmill.yaml_file import parse_yaml

PACKAGE = Path(__file__).parent
_CARRIED = PACKAGE / "repository"  # in a wheel: setup.py
REPOSITORY = _CARRIED if _CARRIED.is_dir() else PACKAGE.parents[1]  # the folder of params.yaml, dvc.yaml and pipeline/
PIPELINE, LOCK, PARAMS = Path("dvc.yaml"), Path("dvc.lock"), Path("params.yaml")
CODE = (".py", ".j2", ".yaml", ".txt")  # small files, compared by content; others by size, times and inode
ALWAYS = ("scan", "version")  # the stages that run at every `dvc repro`
SECONDS_TO_NOTICE = 0.5  # that the parent has died


@contextmanager
def stage_process() -> Iterator[None]:
    """Around a stage's `main()`: what the user can mend ends in one line, and any text can be printed.

    The death of the `dvc` that started this process ends it as SIGTERM does. DVC forwards only SIGINT, and a stage that
    goes on unseen would compete with the next one.
    """
    print_anything()
    with one_line_errors():
        if "DVC_STAGE" in os.environ:
            parent = _living_parent()
            threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
        yield


def _living_parent() -> int:
    """Raises InputError where it has died already: then another session's process is the parent, such as init."""
    parent = os.getppid()
    if os.getsid(parent) != os.getsid(0):
        raise InputError("a stage must end with its dvc, which has ended: run `dvc repro` again")
    return parent


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(SECONDS_TO_NOTICE)
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def steady(stage: str, key: str = "") -> Iterator[None]:
    """Within the block the params and files that `stage` of dvc.yaml depends on must not change.

    DVC records them when the stage ends, so after an edit in the meantime a stale result would count as up to date.
    `key` is that of a `foreach` stage. Without a dvc.yaml, as in a job on a cluster, nothing is compared.

    Raises:
        InputError: they have changed.
    """
    if not PIPELINE.exists():
        yield
        return
    require_as_imported()
    before = _dependencies(stage, key)
    yield
    after = _dependencies(stage, key)
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if changed:
        others = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        rule = f"what the stage {stage} is made of must stay the same while it runs"
        raise InputError(f"{rule}, but {changed[0]}{others} changed: run again")


def require_as_imported() -> None:
    """Raises InputError where a source file was changed after this process began, which may run its old content."""
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if path and name.partition(".")[0] in ("latentmill", "__main__") and _is_newer(Path(path)):
            raise InputError(f"source files must stay the same while they are imported, but {path} changed: run again")


def _is_newer(path: Path) -> bool:
    """A time that is yet to come is of a clock that has been set back."""
    return path.exists() and latentmill.BEGAN < path.stat().st_ctime_ns <= time.time_ns()


def stale_stages() -> list[str]:
    """The stages whose outputs are of other data, params or code than the present ones; none where DVC never ran.

    What runs always is left out. What is deleted says nothing: a clone may have fetched only some outputs.

    Raises:
        InputError: DVC has no answer.
    """
    if not (PIPELINE.exists() and LOCK.exists()):
        return []
    status = subprocess.run([sys.executable, "-m", "dvc", "status", "--json"], text=True, capture_output=True)
    if status.returncode:
        reason = (status.stderr.strip().splitlines() or ["it ended early"])[-1]
        raise InputError(f"`dvc status` must say what has changed, but {reason}")
    changes = json.loads(status.stdout)
    return [stage for stage, found in changes.items() if stage not in ALWAYS and set(_leaves(found)) - {"deleted"}]


def has_changed_since(stage: str, name: str) -> bool:
    """Whether a section of params.yaml is another than DVC recorded of a stage; false where it recorded none."""
    if not (LOCK.exists() and PARAMS.exists()):
        return False
    try:
        recorded = YAML(typ="safe").load(LOCK)["stages"][stage]["params"][str(PARAMS)][name]
    except (YAMLError, LookupError, TypeError):  # damaged, or the stage has not run
        return False
    return bool(recorded != _param(parse_yaml(PARAMS.read_bytes(), str(PARAMS)), name))


def _leaves(found: Any) -> Iterator[str]:
    if isinstance(found, dict | list):
        for each in found.values() if isinstance(found, dict) else found:
            yield from _leaves(each)
    else:
        yield str(found)


def _dependencies(stage: str, key: str) -> dict[str, Any]:
    """The params by value and the files by content or stamp, by name."""
    definition = YAML(typ="safe").load(PIPELINE)["stages"][stage]
    definition = definition.get("do", definition)
    params = parse_yaml(PARAMS.read_bytes(), str(PARAMS)) if PARAMS.exists() else None
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
        return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino
    except FileNotFoundError:
        return None
