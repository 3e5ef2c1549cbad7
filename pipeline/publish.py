"""publish ENTRY: a copy of the entry's folder in graphs/ -> exports/<entry>/.

The stage export cannot write there itself: DVC refuses an output folder in which git tracks a file.
"""

import shutil
import sys
from pathlib import Path

from latentmill.files import replacing_folder
from latentmill.stage import stage_process


def main(entry: str) -> None:
    with replacing_folder(Path("exports") / entry) as folder:
        for path in (Path("graphs") / entry).iterdir():  # copytree would hide errors, such as a full disk, in a text
            shutil.copy2(path, folder)


if __name__ == "__main__":
    with stage_process():
        main(sys.argv[1])
