"""`latentmill judge` as its user runs it: 10,000 samples against 60,000 images of 28x28."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.target import Result, Target
from latentmill.data.sources.fashion_mnist import FOLDER, read_pair
from latentmill.judging.command import STATUS

SECONDS = Target("latentmill judge, 10 000 samples, 60 000 images: time", "s", at_most=120)
MEMORY = Target("latentmill judge, 10 000 samples, 60 000 images: memory", "GiB", at_most=2)


def measure() -> Iterator[Result]:
    """Half of the test images of Fashion-MNIST, and the same moved by a pixel, stand for samples."""
    if not FOLDER.exists():
        yield SECONDS.not_measured("dataset-fashion-mnist")
        yield MEMORY.not_measured("dataset-fashion-mnist")
        return
    (train, labels), (test, test_labels) = (read_pair(FOLDER, part) for part in ("train", "t10k"))
    order = np.random.default_rng(0).permutation(len(test))
    drawn, held_out = test[order[:5000]], order[5000:]
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder, "train.npz"), images=train, labels=labels)
        np.savez(Path(folder, "new.npz"), images=test[held_out], labels=test_labels[held_out])
        np.save(Path(folder, "samples.npy"), np.concatenate([drawn, np.roll(drawn, 1, axis=-1)]))
        command = [
            str(Path(sys.executable).with_name("latentmill")),
            "judge",
            "--samples",
            "samples.npy",
            "--train",
            "train.npz",
        ]
        started = time.perf_counter()
        running = subprocess.Popen([*command, "--held-out", "new.npz"], cwd=folder, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(running.pid, 0)
        assert os.waitstatus_to_exitcode(status) in STATUS.values(), "it must end with a verdict"
        yield SECONDS.result(time.perf_counter() - started)
    yield MEMORY.result(used.ru_maxrss / 2**20)
