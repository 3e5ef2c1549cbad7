"""The code that a cluster gets: what git tracks and what is imported, never what merely lies beside it.

So no keys, tokens or environment files are sent. A new module need not be tracked: it is sent where it is imported.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ruamel.yaml import YAML

from latentmill.config import Params
from latentmill.errors import InputError
from latentmill.stage import REPOSITORY
from latentmill.storage import Storage
from latentmill.trials.code import SOURCE, digest, imported_files

PACKAGE, STAGE = SOURCE / "latentmill", Path("pipeline/train.py")
LIMIT = 100 * 2**20  # bytes that a dashboard accepts; other ways allow 512 MiB
ANOTHER_REPOSITORY = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")  # variables that a git hook sets


def storage_in(root: Path, url: str) -> Storage:
    """A folder or URL that params.yaml in `root` names."""
    return Storage(url if "://" in url else root / url)


def tracked_files(folder: Path) -> list[Path]:
    """The files below a folder that git tracks, links left out; none where there is no repository, or no git."""
    environment = {name: value for name, value in os.environ.items() if name not in ANOTHER_REPOSITORY}
    command = ["git", "-C", str(folder), "ls-files", "-z"]
    try:
        listed = subprocess.run(command, env=environment, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    real = folder.resolve()
    names = [os.fsdecode(name) for name in listed.split(b"\0") if name]
    return [real / name for name in names if (real / name).is_file() and (real / name).resolve() == real / name]


def package_files(*starts: Path) -> list[Path]:
    """The files of this package that git tracks, or that this process or one of `starts` imports."""
    loaded = [Path(str(getattr(module, "__file__", None))) for module in list(sys.modules.values())]
    own = [path for path in loaded if path.is_relative_to(PACKAGE) and path.suffix == ".py"]
    needed = {path for path in imported_files(*own, *starts, by_name=True) if path.is_relative_to(PACKAGE)}
    packages = {parent / "__init__.py" for path in needed for parent in path.parents if parent.is_relative_to(PACKAGE)}
    tracked = {PACKAGE / path.relative_to(PACKAGE.resolve()) for path in tracked_files(PACKAGE)}
    return sorted(needed | {path for path in packages if path.exists()} | tracked)


def copy_package(files: Iterable[Path], folder: Path) -> Path:
    """Copy these files of the package into `folder`; returns the package there."""
    copy_files(files, PACKAGE, folder / PACKAGE.name)
    return folder / PACKAGE.name


def copy_files(files: Iterable[Path], root: Path, folder: Path) -> None:
    """Copy files below `root` to the same places below `folder`."""
    for path in files:
        target = folder / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


@dataclass(frozen=True)
class Sent:
    """What goes to the cluster: the folder of the job's driver, and the package with the code."""

    project: Path
    package: Path
    code: str  # its digest

    @classmethod
    def of(cls, root: Path, params: Params, storage: Storage, folder: Path) -> Self:
        """Copy them into `folder`; paths of `train` are absolute there, and what is `auto` in `params` has its value.

        A cluster with other processors would decide otherwise, and `dvc repro` would look for other trials here.

        Raises:
            InputError: they are larger than Ray accepts.
        """
        place = root if (root / STAGE).exists() else REPOSITORY  # a project without a clone has no stages of its own
        files = package_files(place / STAGE, PACKAGE / "cluster" / "job.py", *_named(params))
        code = digest(path for path in files if path.suffix == ".py")
        made = cls(folder / "project", copy_package(files, folder), code)
        copy_files({place / STAGE, *tracked_files(place / STAGE.parent)}, place, made.project)
        yaml = YAML()
        content = yaml.load(root / "params.yaml")
        content["train"]["storage"] = storage.url
        if params.train.warm_start:
            content["train"]["warm_start"] = storage_in(root, params.train.warm_start).url
        content.update(ladder=params.ladder, priors=params.priors)
        yaml.dump(content, made.project / "params.yaml")
        for parts, sent in ((f"{STAGE.parent} and params.yaml", made.project), (str(PACKAGE), made.package)):
            size = sum(path.stat().st_size for path in sent.rglob("*") if path.is_file())
            if size > LIMIT:
                raise InputError(f"{parts} must have at most {LIMIT} bytes to be sent with a job, but have {size}")
        return made

    def mark(self, data_digest: str) -> str:
        """The digest of a job's content: its files, the package's code and the data."""
        hashed = hashlib.sha256(f"{data_digest} {self.code}".encode())
        for path in sorted(path for path in self.project.rglob("*") if path.is_file()):
            hashed.update(path.read_bytes())
        return hashed.hexdigest()


def _named(params: Params) -> list[Path]:
    """The models and priors that params.yaml names, which are imported by name.

    Raises:
        InputError: a value of an entry breaks its rule.
    """
    models = {params.entry(name).model for name in params.ladder}
    paths = [PACKAGE / "models" / f"{name}.py" for name in models]
    return [path for path in [*paths, *(PACKAGE / "priors").glob("*.py")] if path.exists()]
