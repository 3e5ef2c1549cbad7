"""Measure every group, or those that are named; exit with 1 where a target falls short.

A new target is a function that yields results, and a line in `GROUPS`. The long ones stand last.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks import (
    browser,
    decoder,
    family,
    intake,
    judge,
    memory,
    neighbours,
    packing,
    packs,
    pipeline,
    quality,
    sweep,
    training,
)
from benchmarks.target import Result
from latentmill.files import write_json

Json = dict[str, Any]

GROUPS: dict[str, Callable[[], Iterator[Result]]] = {
    "training": training.measure,
    "packing": packing.measure,
    "packs": packs.measure,
    "decoder": decoder.measure,
    "browser": browser.measure,
    "neighbours": neighbours.measure,
    "judge": judge.measure,
    "intake": intake.measure,
    "sweep": sweep.measure,
    "memory": memory.measure,
    "quality": quality.measure,
    "family": family.measure,
    "repro": pipeline.measure_default,
    "full": pipeline.measure_full,
}
RESULTS = Path(__file__).with_name("results.json")


def main() -> int:
    results = list(measured(chosen_groups()))
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    write_json(RESULTS, merged(known, machine(), results))
    return 0 if all(result.holds for result in results) else 1


def chosen_groups() -> list[str]:
    parser = argparse.ArgumentParser("python -m benchmarks", description="Measure speed and size against targets.")
    parser.add_argument("group", nargs="*", help=f"one of {', '.join(GROUPS)}; all where none is named")
    chosen: list[str] = parser.parse_args().group
    for name in chosen:
        if name not in GROUPS:
            parser.error(f"a group must be one of {', '.join(GROUPS)}, but got {name!r}")
    return [name for name in GROUPS if name in chosen or not chosen]


def measured(groups: Iterable[str]) -> Iterator[Result]:
    """The results one after the other, each printed as soon as it is there."""
    for group in groups:
        for result in GROUPS[group]():
            print(result, flush=True)
            yield result


def merged(known: list[Json], here: Json, results: list[Result]) -> list[Json]:
    """The figures of each machine: those `known`, and in place of those `here` that were measured now the new ones."""
    kept = {target["name"]: target for each in known if each["machine"] == here for target in each["targets"]}
    targets = kept | {result.name: asdict(result) for result in results}
    return [*(each for each in known if each["machine"] != here), {"machine": here, "targets": list(targets.values())}]


def machine() -> Json:
    """What a figure depends on, without what names this machine."""
    return {
        "processor": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


if __name__ == "__main__":
    sys.exit(main())
