"""The first step of a job, before the train stage: fetch the prepared data from the trial store."""

import platform
import sys
from pathlib import Path

from latentmill.config import load_params
from latentmill.errors import InputError, one_line_errors
from latentmill.files import replacing_folder
from latentmill.storage import Storage

PREPARED = Path("data/prepared")


def data_folder(digest: str) -> str:
    """The folder of the data in the store; hidden, because it is no trial."""
    return f".data-{digest[:16]}"


def fetch_data(digest: str) -> None:
    """Copy the data to `PREPARED`.

    Raises:
        InputError: this machine does not see the store, or the store has no such data.
    """
    storage, folder = Storage(load_params().train.storage), data_folder(digest)
    try:
        with replacing_folder(PREPARED) as target:
            for name in storage.names(folder):
                (target / name).write_bytes(storage.read(f"{folder}/{name}"))
        complete = (PREPARED / "manifest.json").exists()
    except OSError as error:
        raise InputError(f"the data must be reachable from the cluster, but {storage}: {error}") from None
    if not complete:
        raise InputError(
            f"the data must be reachable from the cluster, but {platform.node()} does not see it in {storage}: "
            "train.storage must be a shared folder or a URL"
        )


if __name__ == "__main__":
    with one_line_errors():
        fetch_data(sys.argv[1])
