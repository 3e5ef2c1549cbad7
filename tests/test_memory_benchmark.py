"""What benchmarks see of the memory of processes."""

import sys

import numpy as np
import pytest
from benchmarks.processes import environment_of, run

MIB = 2**20
PROGRAM = """
import time
import numpy as np
own = np.ones(150 * 2**20, np.uint8)
mapped = np.load("mapped.npy", mmap_mode="r")
mapped.sum()
time.sleep(2.5)
"""


@pytest.mark.slow
def test_own_memory_and_the_pages_of_mapped_files_are_told_apart(tmp_path):
    np.save(tmp_path / "mapped.npy", np.ones(100 * MIB, np.uint8))
    found = run([sys.executable, "-c", PROGRAM], tmp_path, environment_of(tmp_path))
    assert 150 * MIB < found.largest_own < 220 * MIB
    assert found.largest_resident > found.largest_own + 100 * MIB
