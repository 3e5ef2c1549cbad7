"""What a GPU makes of training: `make gpu`, at most 8 minutes on one card.

Correctness first, then speed against what the card can do. Each part is kept in gpu.json as soon as it has ended, so
that an interrupted run keeps what it measured. It needs torch and little else: neither Ray nor DVC, nor a network.
"""

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latentmill import registry
from latentmill.codes import Generator
from latentmill.config import TrainingConfig
from latentmill.data.batches import Batches
from latentmill.files import write_json
from latentmill.runtime.images import save
from latentmill.training.loop import Setup, begin, optimise
from latentmill.trials.pack_size import copies, step_seconds
from latentmill.trials.trial import Trial

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests" / "test_gpu.py"
HIDDEN, LATENT, BATCH = 400, 20, 128  # of the MLP VAE, 784-400-20
WEIGHTS = 784 * HIDDEN + HIDDEN * 2 * LATENT + LATENT * HIDDEN + HIDDEN * 784  # of its products, without biases
SIZES, SMALL_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512), (1, 2)
SIDES, SMALL_SIDES = (28, 64, 128), (28,)
PRODUCT = 4_096  # side of the matrices whose product is the limit
GOALS = {64: 50, 256: 100}  # trials an hour in a pack of so many, over one at a time
Found = dict[str, Any]  # JSON


def main() -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a minute on a CPU, to try it where there is no GPU")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of gpu.json and gpu.png")
    asked = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not asked.small:
        parser.error("a GPU must be there, but torch sees none; --small tries it on the CPU")
    asked.out.mkdir(parents=True, exist_ok=True)
    found: Found = {"device": name_of(device), "torch": torch.__version__, "python": platform.python_version()}
    for name, measure in parts(device, asked.small, asked.out):
        started = time.perf_counter()
        found[name] = measure() | {"seconds": round(time.perf_counter() - started, 1)}
        write_json(asked.out / "gpu.json", found)
        print(f"{name}: {found[name]}", flush=True)
    return 0 if found["tests"]["status"] == 0 else 1


def name_of(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else platform.processor() or "CPU"


def parts(device: str, small: bool, out: Path) -> Iterator[tuple[str, Callable[[], Found]]]:
    """In the order of their worth."""
    yield "tests", partial(tests, small)
    for precision in ("float32", "bfloat16"):
        yield f"limit, {precision}", partial(limit, device, precision, small)
        yield f"packs, {precision}", partial(packs, device, precision, small)
    for side in SMALL_SIDES if small else SIDES:
        yield f"conv VAE of {side} px", partial(images_a_second, device, side, small)
    yield "samples", partial(samples, device, small, out / "gpu.png")


def tests(small: bool) -> Found:
    """Those that need a GPU, or of a small run a few of them on the CPU."""
    command = [sys.executable, "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider", "-m", "gpu", str(TESTS)]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    if small:
        command += ["-k", "codes_and_samples"]
        environment |= {"LATENTMILL_GPU_TESTS": "cpu"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    return {"status": done.returncode, "said": done.stdout.strip().splitlines()[-12:]}


def limit(device: str, precision: str, small: bool) -> Found:
    """What a product of large matrices comes to, which no training can exceed."""
    side = 256 if small else PRODUCT
    a, b = (torch.randn(side, side, device=device, dtype=getattr(torch, precision)) for _ in range(2))
    fastest = min(seconds_of(lambda: a @ b, device) for _ in range(10))
    return {"teraflops": round(2 * side**3 / fastest / 1e12, 3)}


def packs(device: str, precision: str, small: bool) -> Found:
    """A step of packed MLP VAEs of 28x28 images, by how many there are."""
    images = Batches(noise(10 * BATCH, 1, 28), device)
    rows: dict[int, Found] = {}
    for size in SMALL_SIZES if small else SIZES:
        try:
            rows[size] = step(trial(precision=precision), size, images)
        except torch.OutOfMemoryError:
            break
    alone = rows[1]["milliseconds"]
    faster = {size: round(size * alone / row["milliseconds"], 1) for size, row in rows.items()}
    goals = {str(size): {"times": faster[size], "goal": goal} for size, goal in GOALS.items() if size in faster}
    return {"by_size": {str(size): row | {"times_alone": faster[size]} for size, row in rows.items()}, "goals": goals}


def step(each: Trial, size: int, images: Batches) -> Found:
    """Of a pack of `size`: its time, the arithmetic of its products, and the memory of a member."""
    if images.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    seconds = step_seconds(copies(each, size, Setup(images, images), 0), images)
    operations = 6 * WEIGHTS * BATCH * size  # two a weight and image, forward once and backward twice
    found = {"milliseconds": round(1e3 * seconds, 3), "teraflops": round(operations / seconds / 1e12, 3)}
    if images.device.type == "cuda":
        found["mebibytes_a_member"] = round(torch.cuda.max_memory_allocated() / size / 2**20, 1)
    return found


def images_a_second(device: str, side: int, small: bool) -> Found:
    """Trained on, in colour, by one trial at a time, plain and compiled."""
    images, few = (Batches(noise(count, 3, side), device) for count in (4 * BATCH, 10))
    found = {}
    for compiled in (False,) if small else (False, True):
        each = trial(network="conv", observation="gaussian", precision="bfloat16")
        setup = Setup(images, few, compiled=compiled)
        member = begin(each.build_model(images, 0), setup, each.training_config, 0)
        started, epochs = time.perf_counter(), 0
        for _ in optimise([member], setup):
            epochs = member.state.epoch
        found["compiled" if compiled else "plain"] = round(epochs * len(images) / (time.perf_counter() - started))
    return found


def samples(device: str, small: bool, path: Path) -> Found:
    """Of a conv VAE trained on drawn colour images, to look at."""
    images = drawn(300 if small else 20_000)
    setup = Setup(Batches(images[100:], device), Batches(images[:100], device))
    each = trial(network="conv", observation="gaussian", epochs=1 if small else 20, patience=20)
    member = begin(each.build_model(setup.examples, 0), setup, each.training_config, 0)
    list(optimise([member], setup))
    generator = Generator(member.state.model.eval(), registry.build("priors", "normal", {}, (LATENT,)))
    with torch.no_grad():
        made, _ = generator(torch.randn(64, LATENT, device=device))
    save(path, made.cpu().numpy())
    return {"file": path.name, "val_loss": member.state.best_loss}


def trial(**given: Any) -> Trial:
    vae = registry.find("models", "vae")
    own = {key: value for key, value in given.items() if key in vae.Config.model_fields}
    model = vae.Config.model_validate({"hidden": HIDDEN, "latent": LATENT} | own).model_dump()
    training = {"epochs": 3, "batch_size": BATCH} | {key: value for key, value in given.items() if key not in own}
    return Trial("vae", model, TrainingConfig.model_validate(training).model_dump(), 0)


def noise(count: int, channels: int, side: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, channels, side, side), dtype=np.uint8)


def drawn(count: int) -> np.ndarray:
    """Discs of one colour on another, uint8 (count, 3, 64, 64)."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:64j, -1:1:64j].astype(np.float32)
    images = np.empty((count, 3, 64, 64), np.uint8)
    for image in images:
        centre, radius = rng.uniform(-0.5, 0.5, 2), rng.uniform(0.2, 0.6)
        inside = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2
        image[:] = np.where(inside, *rng.integers(0, 256, (2, 3, 1, 1), dtype=np.uint8))
    return images


def seconds_of(function: Callable[[], object], device: str) -> float:
    function()
    _wait(device)
    started = time.perf_counter()
    function()
    _wait(device)
    return time.perf_counter() - started


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    sys.exit(main())
