"""The folder of a private Ray, and its token: a place for sockets, whatever the environment of the user is."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from latentmill.cluster import has_token, session
from latentmill.cluster.connection import cluster
from latentmill.cluster.session import LONGEST, session_folder
from latentmill.errors import InputError

LIMIT = 107  # bytes of the path of a socket, on Linux
KILLED = """
import os, signal
from pathlib import Path
from latentmill.cluster import session

session.LONGEST = 4096
with session.session_folder() as folder:
    Path(folder, "log").touch()
    print(folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Sets TMPDIR; the folders that are tried after it are below `tmp_path`."""
    monkeypatch.setattr(session, "LONGEST", len(str(tmp_path)) + 10)
    monkeypatch.setattr(session, "OTHERS", (str(tmp_path / "gone"), str(tmp_path / "other")))
    (tmp_path / "other").mkdir()

    def set_place(name: str) -> Path:
        (tmp_path / name).mkdir()
        monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / name))
        return tmp_path / name

    return set_place


def test_it_is_new_for_this_user_alone_and_is_removed(place):
    temporary = place("short")
    with session_folder() as folder:
        assert Path(folder).parent == temporary
        assert Path(folder).stat().st_mode & 0o777 == 0o700
        assert list(Path(folder).iterdir()) == []
        (Path(folder) / "log").touch()
    assert list(temporary.iterdir()) == []


def test_where_the_path_is_too_long_for_a_socket_another_place_is_taken(place, tmp_path):
    """As Slurm's are: /tmp/scratch/slurm/job.1234567.someone/tmp.t0016."""
    place("a-name-of-more-than-ten-bytes")
    with session_folder() as folder:
        assert Path(folder).parent == tmp_path / "other"


def test_where_there_is_no_place_one_line_says_what_to_set(place, tmp_path):
    place("a-name-of-more-than-ten-bytes")
    (tmp_path / "other").rmdir()
    with (
        pytest.raises(InputError, match=r"^TMPDIR must be a folder .* at most \d+ bytes .*: set RAY_TMPDIR to one$"),
        session_folder(),
    ):
        pass


def test_the_longest_path_leaves_room_for_the_sockets():
    with session_folder() as folder:
        above = "x" * (LONGEST - len(str(Path(folder).parent)))
    deepest = "session_2026-11-28_21-35-08_123456_4194304/sockets/plasma_store"  # the largest number of a process
    assert len(f"{above}{folder}/{deepest}") == LIMIT


def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr(session, "LONGEST", 4096)
    program = KILLED.replace(
        "with session", "from latentmill.cluster import session\nsession.LONGEST = 4096\nwith session"
    )
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    left = Path(done.stdout.strip())
    assert (left / "log").exists()
    with session_folder():
        assert not left.exists()


def test_a_machine_too_busy_for_ray_to_start_is_one_line(monkeypatch):
    def init(**settings):
        raise Exception("The current node timed out during startup. This could happen because")  # as Ray does

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(InputError, match=r"^Ray must start within 30 s, but"), cluster(1):
        pass


def test_a_user_without_a_home_has_no_token(monkeypatch):
    for name in ("HOME", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for a number without a name
    assert not has_token()
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    assert has_token()
