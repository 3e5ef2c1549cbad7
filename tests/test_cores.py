"""How many cores a process may use: of its mask, and of the quota of its cgroup, not of the machine."""

import os
import subprocess
import sys

import pytest

from latentmill.runtime import cores as counted
from latentmill.runtime.cores import cores

QUOTA, PERIOD = "cpu.cfs_quota_us", "cpu.cfs_period_us"  # of the first version of cgroups
ONE_CORE = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from latentmill.runtime.cores import cores
print(cores())
"""


@pytest.fixture
def cgroup(tmp_path, monkeypatch):
    """Sets what this process reads of its cgroup, on a machine of 8 cores."""
    monkeypatch.setattr(counted, "OWN", tmp_path / "own")
    monkeypatch.setattr(counted, "CONTROLLERS", tmp_path / "cgroup")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))

    def written(own: str, files: dict[str, str]) -> None:
        (tmp_path / "own").write_text(own)
        for name, content in files.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    return written


def test_cores_outside_of_the_affinity_mask_are_not_counted():
    assert subprocess.check_output([sys.executable, "-c", ONE_CORE], text=True) == "1\n"


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/\n", {}, 8),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "1600000 100000\n"}, 8),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n"}, 3),
        ("0::/pod/of/the/host\n", {"cpu.max": "400000 100000\n"}, 4),
        (
            "3:cpu,cpuacct:/a\n",
            {"cpu,cpuacct/a/cpu.cfs_quota_us": "300000\n", "cpu,cpuacct/a/cpu.cfs_period_us": "100000"},
            3,
        ),
        ("3:cpu:/pod\n", {f"cpu/{QUOTA}": "200000\n", f"cpu/{PERIOD}": "100000\n"}, 2),
        ("3:cpu:/\n", {f"cpu/{QUOTA}": "-1\n", f"cpu/{PERIOD}": "100000\n"}, 8),
        ("3:cpuset:/\n", {"cpuset/cpu.max": "100000 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "damaged"}, 8),
    ],
)
def test_the_quota_of_a_cgroup_or_of_one_above_it_limits_the_cores(cgroup, own, files, expected):
    cgroup(own, files)
    assert cores() == expected
