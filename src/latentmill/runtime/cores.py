"""The number of cores that this process may use, by its affinity mask and the quota of its cgroup."""

import os
from collections.abc import Iterator
from math import ceil
from pathlib import Path

OWN, CONTROLLERS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")  # where Linux has them


def cores() -> int:
    """At least 1; where a quota is no whole number of cores, the next larger."""
    mask = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([mask, *map(ceil, _quotas())]))


def _quotas() -> Iterator[float]:
    """Cores, of the cgroup of this process and those above it, in both versions of cgroups.

    A container may see the path of its cgroup on the host, but its files at the top of the tree: so all are tried.
    """
    lines = OWN.read_text(encoding="utf-8").splitlines() if OWN.exists() else []
    for line in lines:
        _, names, path = line.split(":", 2)
        if names and "cpu" not in names.split(","):
            continue
        below = Path(path.lstrip("/"))
        for folder in (below, *below.parents):
            yield from _quota(CONTROLLERS / names / folder)


def _quota(folder: Path) -> list[float]:
    """Of this cgroup alone; empty where it has none."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        else:
            quota, period = (
                (folder / f"cpu.cfs_{name}_us").read_text(encoding="utf-8") for name in ("quota", "period")
            )
        return [int(quota) / int(period)] if int(quota) > 0 else []
    except (OSError, ValueError):  # "max", or no such files
        return []
