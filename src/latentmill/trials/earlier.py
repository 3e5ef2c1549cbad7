"""The trained models that an earlier run has left, found by their records, without torch: `train.warm_start`."""

from collections.abc import Iterator
from pathlib import Path

from latentmill.errors import InputError
from latentmill.storage import Storage
from latentmill.trials.record import PRIORS, RECORD, digest

LISTING = Path("data/warm_start.txt")  # by which DVC notices that they have changed
MOST = 2**28  # bytes of a record


def records(storage: Storage) -> dict[str, bytes]:
    """The content of the record of each, by its folder, such as `vae` or `vae/priors/flow`.

    Raises:
        InputError: there is none, or one can't be read.
    """
    try:
        found = {folder: storage.read(f"{folder}/{RECORD}", MOST) for folder in _folders(storage)}
    except OSError as error:
        raise InputError(f"train.warm_start must be readable, but {storage}: {error.strerror or error}") from None
    if not found:
        rule = "train.warm_start must be a folder with models of an earlier run, such as a copy of `models`"
        raise InputError(f"{rule}, but {storage} has none")
    return found


def _folders(storage: Storage) -> Iterator[str]:
    for entry in storage.names():
        for folder in (entry, *(f"{entry}/{PRIORS}/{prior}" for prior in storage.names(f"{entry}/{PRIORS}"))):
            if RECORD in storage.names(folder):
                yield folder


def listing(url: str | None) -> str:
    """A line for each model: the digest of its record, which names that of its weights, and its folder; or `none`.

    Raises:
        InputError: as `records`.
    """
    if url is None:
        return "none\n"  # because DVC warns of an empty file
    found = records(Storage(url))
    return "".join(f"{digest(content)} {folder}\n" for folder, content in found.items())


def require_as_listed(url: str | None) -> None:
    """Raises InputError where the models are not those in `LISTING`, for which DVC would take the results."""
    if LISTING.exists() and listing(url) != LISTING.read_text(encoding="utf-8"):
        raise InputError(f"the models in {url} must stay the same while trials begin with them, but changed: run again")
