"""Runs git and DVC in a project."""

import os
import subprocess
import sys
from pathlib import Path

from latentmill.cluster.upload import ANOTHER_REPOSITORY
from latentmill.errors import InputError

DVC = (sys.executable, "-m", "dvc")


def run(folder: Path, *command: str) -> None:
    """Raises InputError where a command ends with an error in `folder`."""
    done = subprocess.run(command, cwd=folder, env=environment(), text=True, capture_output=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it ended early"])[-1]
        raise InputError(f"{' '.join(command[-3:])} must succeed in {str(folder)!r}, but {reason}")


def environment() -> dict[str, str]:
    """That of this process, without what names another repository."""
    kept = {name: value for name, value in os.environ.items() if name not in ANOTHER_REPOSITORY}
    return kept | {"DVC_NO_ANALYTICS": "1"}
