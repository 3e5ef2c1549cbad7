"""`latentmill init`: a folder of the user's own with settings and stages, in which `dvc repro` runs."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from latentmill.config import DataConfig, checked
from latentmill.data import sources
from latentmill.data.sources.recognition import recognised
from latentmill.errors import InputError
from latentmill.files import write_text
from latentmill.project.pipeline import pipeline_text
from latentmill.project.plots import offline_plots
from latentmill.project.programs import DVC, environment, run
from latentmill.stage import PARAMS, PIPELINE, REPOSITORY

PLOTS = Path(".dvc/plots")
IGNORED = """.venv/
.latentmill/
# outputs of the stages
/data/
/models/
/evaluation/
/graphs/
/exports/
/report/
/dvc_plots/
/*.csv
"""


def init(folder: Path, data: str | None = None, ladder: str | None = None) -> None:
    """Make `folder`, or fill it where it is empty.

    `data` is what the images come from, by default those of params.yaml; `ladder` is one of `ladders()`.

    Raises:
        InputError: `folder` holds something or can't be made, there are no images at `data` or there is no such ladder,
            or git or DVC fails; then nothing is written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"a project must begin in a folder that is new or empty, but {str(folder)!r} is not")
    texts = {PARAMS: params_text(data, ladder), PIPELINE: pipeline_text(), Path(".gitignore"): IGNORED}
    with _removed_on_failure(folder):
        _initialise(folder)
        shutil.copytree(REPOSITORY / PLOTS, folder / PLOTS, dirs_exist_ok=True)
        for name, text in texts.items():
            write_text(folder / name, text)
        offline_plots(folder)
        if has_git():
            run(folder, "git", "add", ".")  # all, for DVC has staged its own files


def has_git() -> bool:
    return shutil.which("git") is not None


def ladders() -> dict[str, Path]:
    """Files in place of params.yaml, by name."""
    return {path.stem: path for path in sorted((REPOSITORY / "ladders").glob("*.yaml"))}


def params_text(data: str | None = None, ladder: str | None = None) -> str:
    """params.yaml of the repository with its comments, in which the section `data` names the images.

    Raises:
        InputError: there is no such ladder, or there are no images at `data`.
    """
    if ladder is not None and ladder not in ladders():
        raise InputError(f"--ladder must be one of {', '.join(ladders())}, but got {ladder!r}")
    text = (ladders()[ladder] if ladder else REPOSITORY / PARAMS).read_text(encoding="utf-8")
    for key, value in _named(data).items() if data is not None else ():
        text = _replaced(text, key, value if key == "source" else json.dumps(value, ensure_ascii=False))
    return text


def _named(data: str) -> dict[str, str]:
    """`source`, and `path` where it needs one, which is absolute: it is relative to where the user is."""
    try:
        found = recognised(data)
        if "path" in found:
            found["path"] = str(Path(data).expanduser().absolute())
        sources.files(checked(DataConfig, found, "--data"))
    except InputError as error:
        raise InputError(f"--data {data}: {str(error).replace('data.path', 'it')}") from None
    return found


def _replaced(text: str, key: str, value: str) -> str:
    """`text` with another value for a key of its first section."""
    return re.sub(rf"^(  {key}: )\S+", lambda found: found[1] + value, text, count=1, flags=re.MULTILINE)


@contextmanager
def _removed_on_failure(folder: Path) -> Iterator[None]:
    """`folder` within the block, which is as it was before where the block fails."""
    with ExitStack() as undo:
        if folder.exists():
            undo.callback(_empty, folder)
        else:
            undo.callback(shutil.rmtree, folder, ignore_errors=True)
            _make(folder)
        yield
        undo.pop_all()


def _make(folder: Path) -> None:
    try:
        folder.mkdir()
    except OSError as error:
        rule = "a project must be a folder that can be made in one that is there"
        raise InputError(f"{rule}, but {str(folder)!r}: {error.strerror}") from None


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _initialise(folder: Path) -> None:
    """A repository of git, except within one, and of DVC; without git only the latter."""
    if not has_git():
        run(folder, *DVC, "init", "--quiet", "--no-scm")
    elif _is_tracked(folder):
        run(folder, *DVC, "init", "--quiet", "--subdir")
    else:
        run(folder, "git", "init", "--quiet")
        run(folder, *DVC, "init", "--quiet")
    run(folder, *DVC, "config", "core.analytics", "false")


def _is_tracked(folder: Path) -> bool:
    asked = ["git", "rev-parse", "--is-inside-work-tree"]
    return subprocess.run(asked, cwd=folder, env=environment(), capture_output=True).returncode == 0
