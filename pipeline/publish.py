"""publish ENTRY: a copy of the entry's folder in graphs/ -> exports/<entry>/.

The stage export cannot write there itself: DVC refuses an output folder in which git tracks a file.
"""

import re
import sys
from pathlib import Path

from latentmill.errors import InputError
from latentmill.files import copy_into, replacing_folder
from latentmill.stage import stage_process

GRAPHS, EXPORTS = Path("graphs"), Path("exports")


def main(entry: str) -> None:
    if not (GRAPHS / entry).is_dir():
        raise InputError(f"{GRAPHS / entry} must be there: run `dvc repro export`")
    with replacing_folder(EXPORTS / entry) as folder:
        copy_into(folder, GRAPHS / entry)


def chosen(arguments: list[str]) -> str:
    """The entry that the command line names."""
    exported = sorted(path.name for path in GRAPHS.glob("*") if path.is_dir() and not path.name.startswith("."))
    if len(arguments) != 1 or not re.fullmatch(r"[\w-]+", arguments[0]):  # no path
        known = f"one of {', '.join(exported)}" if exported else "but nothing is exported: run `dvc repro export`"
        raise InputError(f"publish must have the name of an entry, {known}")
    return arguments[0]


if __name__ == "__main__":
    with stage_process():
        main(chosen(sys.argv[1:]))
