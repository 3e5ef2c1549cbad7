"""The folder of a private Ray: its sockets, logs, and what does not fit into shared memory."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from latentmill.errors import InputError
from latentmill.runtime.partial import partial_output

NAME = "ray"
SOCKET = f"/.{NAME}.01234567.partial/session_2026-11-28_21-35-08_123456_1234567/sockets/plasma_store"
LONGEST = 107 - len(SOCKET)  # bytes of the folder's place: Linux takes no longer path of a socket
OTHERS = ("/tmp", "/var/tmp", "/dev/shm")


@contextmanager
def session_folder() -> Iterator[str]:
    """Within the block, a new folder for this user alone, with a short path; then it is removed.

    One that a killed run has left is removed by the next. By default all of Ray would share /tmp/ray, which keeps the
    logs of every run.

    Raises:
        InputError: no place for it is short enough and can be written.
    """
    with partial_output(_place() / NAME, folder=True) as folder:
        folder.chmod(0o700)
        yield str(folder)


def _place() -> Path:
    wanted = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    for place in (Path(wanted).absolute(), *map(Path, OTHERS)):
        if len(os.fsencode(place)) <= LONGEST and os.access(place, os.W_OK | os.X_OK):
            return place
    rule = f"TMPDIR must be a folder that can be written, with a path of at most {LONGEST} bytes for the sockets of Ray"
    raise InputError(f"{rule}, but got {wanted!r}: set RAY_TMPDIR to one")
