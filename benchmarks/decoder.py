"""Exported decoders: against torch with the same weights, against onnxruntime alone, from a cold start, on disk."""

import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from benchmarks.processes import environment_of
from benchmarks.target import Result, Target
from latentmill import Decoder, registry
from latentmill.codes import Generator
from latentmill.contract import Decodes
from latentmill.export.graphs import export, graphs
from latentmill.runtime.cores import cores
from latentmill.runtime.noise import NoiseStream

SHAPE = (1, 28, 28)
OURS = {  # by network: against torch, at batch 1 and 1 024
    network: (
        Target(f"{network} decoder, one image: torch's time over ours", "x", at_least=2.0),
        Target(f"{network} decoder, 1 024 images: torch's time over ours", "x", at_least=large),
    )
    for network, large in (("mlp", 1.3), ("conv", 2.0))
}
SAMPLE = Target("Decoder.sample of 1 024: time over onnxruntime and noise", "x", at_most=1.05)
COLD = Target("latentmill sample of 64 images, cold", "s", at_most=0.5)
COLD_TORCH = Target("likewise: torch's time over ours", "x", at_least=1.0)
DISK = Target("the runtime and what it depends on, installed", "MiB", at_most=120)
DISK_TORCH = Target("likewise: torch's size over ours", "x", at_least=1.0)
STREAM = Target("a million images streamed: growth of memory after the first", "MiB", at_most=16)
MODEL = Path("exports/vae")
ROUNDS, SECONDS = 15, 0.1
TORCH_COLD = """
import torch
from pathlib import Path
from latentmill.codes import Generator
from latentmill.trials.trained_model import load, load_priors
folder = Path("models/vae")
with torch.inference_mode():
    pair = Generator(load(folder).model, load_priors(folder)["normal"].model)
    pair(torch.randn(64, pair.noise_width))
"""
STREAMED = f"""
import resource
from latentmill import Decoder
stream = Decoder("{MODEL}").stream(1_000_000, batch=4096, seed=0)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for _ in range(3):
    next(stream)
first = peak()
for images in stream:
    pass
print((peak() - first) / 1024)
"""


def measure() -> Iterator[Result]:
    """Ratios are medians of rounds in which both take turns."""
    for network, (one, many) in OURS.items():
        ours, theirs = decoders(network)
        for target, batch in ((one, 1), (many, 1024)):
            z = torch.randn(batch, 20)
            yield target.result(ratio(partial(theirs, z), partial(ours.run, None, {"z": z.numpy()})))
    if not (MODEL / "manifest.json").exists():
        for target in (SAMPLE, COLD, COLD_TORCH, STREAM):
            yield target.not_measured(f"{MODEL}: run `dvc repro`")
    else:
        yield from measure_export()
    ours_on_disk, torchs = (mebibytes(installed(name)) for name in ("latentmill", "torch"))
    yield DISK.result(ours_on_disk)
    yield DISK_TORCH.result(torchs / ours_on_disk)


def measure_export() -> Iterator[Result]:
    """Of the default VAE."""
    decoder = Decoder(MODEL)
    alone = session(MODEL / "generator.onnx")
    width = decoder.noise_width
    yield SAMPLE.result(
        ratio(
            lambda: decoder.sample(1024, seed=0),
            lambda: alone.run(["image"], {"noise": NoiseStream(width, seed=0).rows(1024)}),
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        program = Path(sys.executable).with_name("latentmill")
        command = [str(program), "sample", str(MODEL), "--n=64", f"--out={folder}/64.png"]
        pairs = [(seconds(command), seconds([sys.executable, "-c", TORCH_COLD])) for _ in range(5)]
    yield COLD.result(statistics.median(ours for ours, _ in pairs))
    yield COLD_TORCH.result(statistics.median(theirs / ours for ours, theirs in pairs))
    streamed = subprocess.run([sys.executable, "-c", STREAMED], check=True, capture_output=True, text=True)
    yield STREAM.result(float(streamed.stdout))


def decoders(network: str) -> tuple[onnxruntime.InferenceSession, Callable[[torch.Tensor], torch.Tensor]]:
    """The decoder of the default VAE, untrained, in onnxruntime and in torch; both on all cores."""
    model = registry.build("models", "vae", {"latent": 20, "network": network}, SHAPE).eval()
    assert isinstance(model, Decodes)
    pair = Generator(model, registry.build("priors", "normal", {}, model.code_shape))
    torch.set_num_threads(cores())

    @torch.inference_mode()
    def decode(z: torch.Tensor) -> torch.Tensor:
        return model.decode(z)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "decoder.onnx"
        export(next(graph for graph in graphs(pair) if graph.name == "decoder"), path, {})
        return session(path), decode


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores()
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def ratio(above: Callable[[], object], below: Callable[[], object]) -> float:
    """The time of a call of one over that of the other."""
    return statistics.median(each(above) / each(below) for _ in range(ROUNDS))


def each(call: Callable[[], object]) -> float:
    """Seconds of a call, the least of as many as fit in `SECONDS`."""
    found: list[float] = []
    while sum(found) < SECONDS:
        started = time.perf_counter()
        call()
        found.append(time.perf_counter() - started)
    return min(found)


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=environment_of(Path("src").absolute()))
    return time.perf_counter() - started


def installed(name: str, known: frozenset[str] = frozenset()) -> frozenset[str]:
    """A distribution, and what it needs without extras."""
    if name in known:
        return known
    known |= {name}
    for line in distribution(name).requires or []:
        if "extra ==" not in line and "; " not in line:
            known = installed(re.split(r"[\s<>=!~\[(;]", line, maxsplit=1)[0].lower(), known)
    return known


def mebibytes(names: frozenset[str]) -> float:
    """Of the files of distributions on disk; of latentmill, those of its package, which is linked from here."""
    files = [path.locate() for name in names if name != "latentmill" for path in distribution(name).files or []]
    ours = list(Path("src/latentmill").rglob("*.py")) if "latentmill" in names else []
    sizes = [Path(str(path)).stat().st_size for path in [*files, *ours] if Path(str(path)).is_file()]
    return float(np.sum(sizes)) / 2**20
