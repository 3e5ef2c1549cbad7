"""The first step of a job, before the train stage: fetch the prepared data from the trial store."""

import platform
import sys
from pathlib import Path

from latentmill.cluster.staging import fetch
from latentmill.config import load_params
from latentmill.data.dataset import MANIFEST, TRAINING, intact_digest, stored_as
from latentmill.errors import InputError, one_line_errors
from latentmill.files import replacing_folder
from latentmill.storage import Storage

PREPARED = Path("data/prepared")
# What training reads, labels if there are any; the last is written when the others are complete.
DATA = ("train.npy", "val.npy", "train_labels.npy", "val_labels.npy", MANIFEST)


def fetch_data(digest: str) -> None:
    """Copy the data to `PREPARED`.

    Raises:
        InputError: this machine does not see the store, or the store has no such data, or other bytes.
    """
    storage = Storage(load_params().train.storage)
    try:
        with replacing_folder(PREPARED) as target:
            _copy(storage, stored_as(digest), target)
            _require_submitted(target, digest, storage)
    except OSError as error:
        raise InputError(f"the data must be reachable from the cluster, but {storage}: {error}") from None


def _copy(storage: Storage, folder: str, target: Path) -> None:
    for name in DATA:
        try:
            fetch(storage, f"{folder}/{name}", target / name)
        except FileNotFoundError:
            continue  # labels may be missing
    if not (target / MANIFEST).exists():
        raise InputError(
            f"the data must be reachable from the cluster, but {platform.node()} does not see it in {storage}: "
            "train.storage must be a shared folder or a URL"
        )


def _require_submitted(target: Path, digest: str, storage: Storage) -> None:
    try:
        found = intact_digest(target, TRAINING)
    except InputError:
        found = None
    if found != digest:
        raise InputError(f"the data in {storage} must be as they were submitted, but are not: submit again")


if __name__ == "__main__":
    with one_line_errors():
        fetch_data(sys.argv[1])
