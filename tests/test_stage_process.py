"""A stage ends with the `dvc` that started it, and what the user can mend ends it in one line."""

import errno
import os
import subprocess
import sys

import psutil
import pytest

from latentmill.stage import stage_process

STAGE = """
import os, time
from pathlib import Path
from latentmill.stage import stage_process

with stage_process():
    print(os.getpid(), flush=True)
    time.sleep(60)
"""
DVC = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {STAGE!r}])
"""
LATE = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.5)\\n" + {STAGE!r}])
"""
ENVIRONMENT = os.environ | {"DVC_STAGE": "evaluate"}


def started(program: str) -> subprocess.Popen[str]:
    """In a session of its own, as a terminal's."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, "-c", program], env=ENVIRONMENT, start_new_session=True, **pipes)


def test_a_stage_ends_with_its_dvc():
    dvc = started(DVC)
    stage = psutil.Process(int(dvc.stdout.readline()))
    dvc.kill()
    psutil.wait_procs([stage], timeout=10)
    assert not stage.is_running()
    assert dvc.communicate()[0] == ""


def test_a_stage_whose_dvc_has_died_before_it_began_does_not_begin():
    told = started(LATE).communicate(timeout=30)[0]
    assert told == "error: a stage must end with its dvc, which has ended: run `dvc repro` again\n"


def test_without_dvc_it_has_no_parent_to_end_with(monkeypatch):
    monkeypatch.delenv("DVC_STAGE", raising=False)
    monkeypatch.setattr(os, "getppid", lambda: 0)
    with stage_process():
        pass


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_is_full_or_cannot_be_written_is_one_line(capsys, number):
    with pytest.raises(SystemExit) as ended, stage_process():
        raise OSError(number, os.strerror(number), "models/x")
    assert ended.value.code == 1
    told = f"error: there must be room and permission for files, but 'models/x': {os.strerror(number)}\n"
    assert capsys.readouterr() == ("", told)


def test_other_errors_of_the_system_keep_their_traceback():
    with pytest.raises(ConnectionResetError), stage_process():
        raise ConnectionResetError


def test_what_the_terminal_has_no_letters_for_is_printed_nevertheless():
    program = "from latentmill.stage import stage_process\nwith stage_process(): print('0.5 ± 0.1, dog \\N{SNOWMAN}')"
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii"}
    said = subprocess.check_output([sys.executable, "-c", program], env=ascii_only, text=True)
    assert said == "0.5 \\xb1 0.1, dog \\u2603\n"
