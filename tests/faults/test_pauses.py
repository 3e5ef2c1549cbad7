"""Processes that are stopped for a while, and a clock that jumps: nothing is lost, and nothing is taken for dead."""

import signal
import sys
import time

import pytest
from sites import ROOT, require_goes_on

pytestmark = pytest.mark.faults
WORKER, DRIVER = "ray::ImplicitFunc", "pipeline/train.py"
# Runs a stage whose clock jumps forth by a day and back by two, again and again.
JUMPING = """
import itertools, runpy, sys, time

true, jumps = time.time, itertools.cycle([0] * 50 + [86_400] * 50 + [-86_400] * 50)
time.time = lambda: true() + next(jumps)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("mark", [WORKER, DRIVER])
def test_a_process_that_is_stopped_goes_on(site, undisturbed, mark):
    running = site.start()
    site.wait_for(running, 10, seconds=180)
    process = site.processes(mark)[0]
    process.send_signal(signal.SIGSTOP)
    time.sleep(60)
    process.send_signal(signal.SIGCONT)
    said, _ = running.communicate(timeout=300)
    assert running.returncode == 0, said
    assert "its worker died" not in said
    require_goes_on(site, undisturbed, site.finished())


def test_a_sweep_whose_clock_jumps_ends_as_any_other(site, undisturbed):
    running = site.start(sys.executable, "-c", JUMPING, str(ROOT / "pipeline/train.py"))
    said, _ = running.communicate(timeout=300)
    assert running.returncode == 0, said
    assert "Traceback" not in said
    assert site.weights() == undisturbed.weights()
    require_goes_on(site, undisturbed, site.finished())
