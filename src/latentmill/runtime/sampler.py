"""Sample from exported ONNX graphs with numpy and onnxruntime alone.

from latentmill.runtime.sampler import Decoder, Sampler

images = Sampler("exports/vae").sample(64, seed=0)  # (64, C, H, W) float32 in [0, 1]
images = Decoder("exports/vae").decode(z)           # z (N, latent) -> (N, C, H, W)
"""

import os
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as onnxruntime_errors

from latentmill.errors import InputError

BATCH = 256  # bounds the memory of a large request
DAMAGED = (  # what onnxruntime raises of a file that is not intact, when it loads or when it runs
    onnxruntime_errors.Fail,
    onnxruntime_errors.InvalidArgument,
    onnxruntime_errors.InvalidGraph,
    onnxruntime_errors.InvalidProtobuf,
    onnxruntime_errors.NoSuchFile,
    onnxruntime_errors.NotImplemented,
    onnxruntime_errors.RuntimeException,
    UnicodeDecodeError,  # of a name
)


class Graph:
    """One exported file, with one input and one output of known names.

    Raises:
        InputError: the file is missing or damaged, or is not the graph that is asked for.
    """

    def __init__(self, path: Path | str, name: str, input_name: str, output_name: str) -> None:
        self.path = _file(Path(path), name)
        self.input_name, self.output_name = input_name, output_name
        try:
            self.session = _session(self.path)
            self._check()
        except DAMAGED as error:
            raise InputError(
                f"{self.path} must be an intact ONNX file, but onnxruntime says: {_reason(error)}"
            ) from None
        self.width = int(self.session.get_inputs()[0].shape[1])

    @property
    def metadata(self) -> dict[str, str]:
        """What latentmill wrote into the file: variant, prior, image_shape, metrics, …; all but text is JSON."""
        return dict(self.session.get_modelmeta().custom_metadata_map)

    def run(self, inputs: np.ndarray) -> np.ndarray:
        """(N, width) float32 -> (N, …), a bounded batch at a time."""
        parts = [inputs[start : start + BATCH] for start in range(0, len(inputs), BATCH)]
        try:
            return np.concatenate([self.session.run([self.output_name], {self.input_name: part})[0] for part in parts])
        except DAMAGED as error:
            raise InputError(f"{self.path} must be a graph that runs, but onnxruntime says: {_reason(error)}") from None

    def _check(self) -> None:
        """Raises: InputError: the file does not map (any batch, a fixed width) to images."""
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        found = [(value.name, value.type, len(value.shape)) for value in [*inputs, *outputs]]
        expected = [(self.input_name, "tensor(float)", 2), (self.output_name, "tensor(float)", 4)]
        if found != expected or [type(size) for size in inputs[0].shape] != [str, int]:
            rule = f"float {self.input_name} (batch, width) to float {self.output_name} (batch, C, H, W)"
            raise InputError(f"{self.path} must map {rule}, but maps {_described(inputs)} to {_described(outputs)}")


class Sampler(Graph):
    """Draws images from `generator.onnx`; `path` is the file or the folder that holds it."""

    def __init__(self, path: Path | str) -> None:
        super().__init__(path, "generator.onnx", "noise", "image")

    def sample(self, n: int, seed: int) -> np.ndarray:
        """`n` images (n, C, H, W) float32 in [0, 1]; the same for the same seed, and the first k of n are those of k.

        Raises:
            InputError: `n` is below 1 or `seed` below 0.
        """
        if n < 1:
            raise InputError(f"n must be at least 1, but got {n}")
        if seed < 0:
            raise InputError(f"seed must be at least 0, but got {seed}")
        return self.run(np.random.default_rng(seed).standard_normal((n, self.width), dtype=np.float32))


class Decoder(Graph):
    """Turns codes into images with `decoder.onnx`; `path` is the file or the folder that holds it."""

    def __init__(self, path: Path | str) -> None:
        super().__init__(path, "decoder.onnx", "z", "image")

    def decode(self, z: np.ndarray) -> np.ndarray:
        """Codes (N, latent) -> images (N, C, H, W) float32 in [0, 1].

        Raises:
            InputError: `z` has another shape or no rows.
        """
        if z.ndim != 2 or z.shape[1] != self.width or not len(z):
            raise InputError(f"z must have the shape (N, {self.width}) with N at least 1, but got {z.shape}")
        return self.run(np.ascontiguousarray(z, dtype=np.float32))


def _file(path: Path, name: str) -> Path:
    if path.is_dir():
        held = ", ".join(sorted(item.name for item in path.iterdir())) or "nothing"
        path = path / name
        if not path.exists():
            raise InputError(f"{path.parent} must hold {name}, but holds {held}")
    if not path.is_file():
        raise InputError(f"a model must be an exported folder or an .onnx file, but there is no {path}")
    return path


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _cores()  # onnxruntime itself counts the host's, also in a container
    options.log_severity_level = 4  # what goes wrong is raised; the log would say it again
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"], enable_fallback=0)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _described(values: list[onnxruntime.NodeArg]) -> str:
    return ", ".join(f"{value.type} {value.name} {tuple(value.shape)}" for value in values) or "nothing"


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0]
