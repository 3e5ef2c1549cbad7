"""Puts what `latentmill init` needs of this repository into the package that a wheel carries."""

from pathlib import Path
from tempfile import TemporaryDirectory

from setuptools import setup
from setuptools.command.build_py import build_py

FILES = ("params.yaml", "dvc.yaml", ".dvc/plots/*.json", "ladders/*.yaml", "pipeline/*.py")
PLACE = "latentmill/repository"  # where stage.py looks for them


class BuildWithRepository(build_py):
    """An editable installation needs no copies: its package lies in the repository."""

    def run(self) -> None:
        super().run()
        for path in [] if self.editable_mode else [path for pattern in FILES for path in Path().glob(pattern)]:
            target = Path(self.build_lib, PLACE, path)
            self.mkpath(str(target.parent))
            self.copy_file(str(path), str(target))


# Not in build/, whose files a later wheel would get, also those of modules that are no more.
with TemporaryDirectory() as folder:
    setup(cmdclass={"build_py": BuildWithRepository}, options={"build": {"build_base": folder}})
