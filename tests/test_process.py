"""What a worker process does to compute on one core."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

FAULTS = """
import resource, sys
import torch

if sys.argv[1] == "a worker":
    from latentmill.cluster.process import use_one_core

    use_one_core()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(15):  # of which the first few still find room
    before = faults()
    torch.ones(10_000_000)  # some ten thousand pages
print(torch.get_num_threads(), faults() - before)
"""


def is_glibc_2_35() -> bool:
    name, version = platform.libc_ver()
    return name == "glibc" and tuple(map(int, version.split(".")[:2])) >= (2, 35)


def has_small_pages() -> bool:
    huge = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return not huge.exists() or "[always]" not in huge.read_text()


@pytest.mark.skipif(not has_small_pages(), reason="few huge pages make few faults")
@pytest.mark.skipif(not is_glibc_2_35(), reason="only glibc can keep freed memory, and before 2.35 less of it")
def test_a_worker_has_one_thread_and_keeps_the_memory_that_a_step_frees():
    def measured(who: str) -> list[int]:
        return [int(each) for each in subprocess.check_output([sys.executable, "-c", FAULTS, who]).split()]

    (threads, faults), (_, usual) = measured("a worker"), measured("another")
    assert threads == 1
    assert faults < 100 < usual


GIVEN_BACK = """
import numpy as np
from latentmill.cluster.process import give_back_freed_memory
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 // 2**20
before = resident()
some = [np.ones(2**13) for _ in range(4_000)]  # 64 KiB each, in the heap
last = some[-1]
del some  # the last one stays above all that is free now
held = resident() - before
give_back_freed_memory()
print(held, resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is set up")
def test_what_a_task_frees_is_given_back():
    held, left = (int(each) for each in subprocess.check_output([sys.executable, "-c", GIVEN_BACK]).split())
    assert left < 50 < 150 < held
