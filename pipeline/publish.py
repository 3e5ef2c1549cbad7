"""publish ENTRY: what was exported of an entry, where applications look for it -> exports/<entry>/.

The stage export can't write there itself: DVC takes no folder for an output that git has a file in.
"""

import shutil
import sys
from pathlib import Path

from latentmill.files import replacing_folder


def main(entry: str) -> None:
    with replacing_folder(Path("exports") / entry) as folder:
        shutil.copytree(Path("graphs") / entry, folder, dirs_exist_ok=True)


if __name__ == "__main__":
    main(sys.argv[1])
