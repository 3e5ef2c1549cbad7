"""publish ENTRY: a copy of the entry's folder in graphs/ -> exports/<entry>/.

The stage export cannot write there itself: DVC refuses an output folder in which git tracks a file.
"""

import sys
from pathlib import Path

from latentmill.files import copy_into, replacing_folder
from latentmill.stage import stage_process


def main(entry: str) -> None:
    with replacing_folder(Path("exports") / entry) as folder:
        copy_into(folder, Path("graphs") / entry)


if __name__ == "__main__":
    with stage_process():
        main(sys.argv[1])
