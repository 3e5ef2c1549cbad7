"""Decoding images through `take`, against a bare loop over the same files on as many processes; and an idle scan."""

import json
import multiprocessing
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from benchmarks.processes import environment_of
from benchmarks.target import Result, Target
from latentmill.config import DataConfig
from latentmill.data import sources
from latentmill.data.preparation.fitting import Target as Shape
from latentmill.data.preparation.intake import decode_all
from latentmill.runtime.cores import cores

SIDE = 64  # pixels, of what is prepared
SMALL = Target("decoding PNGs of 64 px: speed over a bare loop's", "x", at_least=0.8)
PHOTOS = Target("decoding JPEGs of 500 px to 64: speed over a bare loop's", "x", at_least=0.8)
SCAN = Target("scan of 100 000 unchanged files", "s", at_most=2.0)
COUNTS = {SMALL: (30_000, SIDE, "png"), PHOTOS: (3_000, 500, "jpg")}
FILES, ROUNDS = 100_000, 3
ROOT = Path(__file__).parents[1]
PARAMS = "data: {source: folder, path: files}\ntrial: {}\ntrain: {}\nladder: {vae: {}}\nevaluation: {}\nexport: {}\n"


def measure() -> Iterator[Result]:
    """Each in a process of its own, which imports no more than prepare does."""
    for target, kind in COUNTS.items():
        with TemporaryDirectory() as folder:
            write_images(Path(folder) / "files", *kind)
            command = [sys.executable, "-m", "benchmarks.intake", folder]
            told = subprocess.run(command, cwd=ROOT, env=environment_of(ROOT / "src"), check=True, capture_output=True)
            yield target.result(statistics.median(bare / ours for ours, bare in json.loads(told.stdout)))
    with TemporaryDirectory() as folder:
        yield SCAN.result(seconds_of_a_scan(Path(folder)))


def write_images(folder: Path, count: int, side: int, suffix: str) -> None:
    """Smooth images with some noise, so that files are as large as those of photos and drawings."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for number in range(count):
        smooth = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8)).resize((side, side))
        noise = rng.integers(-8, 9, (side, side, 3), np.int16)
        pixels = np.clip(np.asarray(smooth) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.{suffix}")


def rounds(folder: Path) -> list[tuple[float, float]]:
    """Seconds of our decoding and of the bare loop, a pair a round."""
    collection = sources.load(DataConfig(source="folder", path=str(folder / "files")))
    paths = sorted(map(str, (folder / "files").iterdir()))
    shape = Shape(3, SIDE, SIDE, "crop", (255, 255, 255))

    def ours() -> None:
        decode_all(collection, shape, folder / "ours.npy", cores(), lambda what, done, total: None)

    def bare() -> None:
        into = folder / "bare.npy"
        np.lib.format.open_memmap(into, mode="w+", dtype=np.uint8, shape=(len(paths), SIDE, SIDE, 3))
        work = [(row, path, str(into)) for row, path in enumerate(paths)]
        with multiprocessing.get_context("spawn").Pool(cores()) as pool:
            pool.map(decode, work, chunksize=64)

    return [(seconds(ours), seconds(bare)) for _ in range(ROUNDS)]


def decode(work: tuple[int, str, str]) -> None:
    """What anyone would write: decode, convert, resize, store."""
    row, path, into = work
    with Image.open(path) as image:
        resized = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    mapped(into)[row] = np.asarray(resized)


def mapped(path: str, known: dict[str, np.ndarray] = {}) -> np.ndarray:  # noqa: B006  # once a process
    if path not in known:
        known[path] = np.lib.format.open_memmap(path, mode="r+")
    return known[path]


def seconds_of_a_scan(folder: Path) -> float:
    """Of a whole process, after one that has seen the files."""
    for number in range(FILES):
        place = folder / "files" / str(number % 100)
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.png").write_bytes(b"content")
    (folder / "params.yaml").write_text(PARAMS, encoding="utf-8")
    time.sleep(3)  # what was written shortly before is read again

    def scan() -> None:
        command = [sys.executable, str(ROOT / "pipeline/scan.py")]
        subprocess.run(command, cwd=folder, env=environment_of(ROOT / "src"), check=True, capture_output=True)

    scan()
    return min(seconds(scan) for _ in range(ROUNDS))


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    print(json.dumps(rounds(Path(sys.argv[1]))))
