"""Exported models in an application: numpy and onnxruntime, no torch."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock

import numpy as np

from latentmill.errors import InputError
from latentmill.runtime import paths
from latentmill.runtime.arguments import numbers, pixels
from latentmill.runtime.facts import read_facts
from latentmill.runtime.folder import CARD, Folder
from latentmill.runtime.graph import CPU, OnnxGraph
from latentmill.runtime.noise import NoiseStream
from latentmill.runtime.text import one_line

GENERATOR, DECODER, ENCODER = "generator.onnx", "decoder.onnx", "encoder.onnx"
INPUTS = {GENERATOR: "noise", DECODER: "z", ENCODER: "image"}
OUTPUTS = {  # of each graph, the possible ones
    GENERATOR: (["image", "z"], ["image"]),
    DECODER: (["image"],),
    ENCODER: (["mean", "log_variance"], ["mean"]),
}
FORMATS = ("fp16", "int8", "uint8")
REACH = (-3.0, 3.0)  # along a dimension or a vector of the caller's


class Decoder:
    """Draws, decodes and encodes images with the files of one export.

    Images are float32 (N, C, H, W) in [0, 1], codes float32 (N, latent). A file is read, checked against the manifest
    and loaded when it is first needed. Several threads may share one decoder.
    """

    def __init__(
        self,
        folder: Path | str,
        providers: Sequence[str] = (CPU,),
        threads: int | None = None,
        format: str | None = None,
    ) -> None:
        """Open `exports/<entry>`.

        Args:
            folder: an export of `latentmill`, in format 1 or 2.
            providers: of onnxruntime, in the order of preference, such as "CUDAExecutionProvider".
            threads: for one call; by default as many as the cores that this process may use.
            format: of the decoder, one that the export has: "fp16", "int8", or "uint8", whose images are uint8 from 0
                to 255. Images that are drawn, and not decoded from codes, do not depend on it.

        Raises:
            InputError: the folder is not an export, or a file has another digest than in its manifest.
        """
        self._folder, self._lock = Folder(folder), Lock()
        self._session, self._format = (tuple(providers), threads), format
        self._graphs: dict[str, OnnxGraph] = {}
        self.card = self._folder.card()  # what the model is, and its verdicts, in the words of format 2
        facts = read_facts(self.card, str(self._folder.path / CARD))
        self.image_shape, self.latent, self.noise_width, self.categorical_noise = facts
        self.formats = tuple(each for each in FORMATS if _file(each) in self._folder.names)  # choices of `format`
        if format is not None and format not in self.formats:
            known = ", ".join(self.formats) or "none"
            raise InputError(f"a format must be one that {folder} holds, {known}, but got {format!r}")

    def sample(self, n: int, seed: int, temperature: float = 1.0, truncation: float | None = None) -> np.ndarray:
        """Draw `n` images: (n, C, H, W). The first k of n are those of k, for the same seed on every platform.

        Args:
            n: how many, at least 1 and at most 4 GiB of them; `stream` has no such limit.
            seed: of the noise, at least 0.
            temperature: the factor of the noise; below 1, images are more typical and less diverse.
            truncation: noise is drawn from -truncation to truncation only, which has a similar effect.

        Raises:
            InputError: an argument breaks its rule.
        """
        return next(self.stream(n, n, seed, temperature, truncation))

    def stream(
        self, n: int, batch: int, seed: int, temperature: float = 1.0, truncation: float | None = None
    ) -> Iterator[np.ndarray]:
        """The images of `sample`, `batch` at a time, in memory that does not grow with `n`."""
        return self._drawn(n, batch, seed, temperature, truncation, "image")

    def draw(self, n: int, seed: int, temperature: float = 1.0, truncation: float | None = None) -> np.ndarray:
        """The codes (n, latent) of the images that `sample` draws.

        Raises:
            InputError: an argument breaks its rule, or the model has no codes.
        """
        self._graph(DECODER)  # raises where there are none
        return next(self._drawn(n, n, seed, temperature, truncation, "z"))

    def noise(self, n: int, seed: int, temperature: float = 1.0, truncation: float | None = None) -> np.ndarray:
        """The noise from which `sample` draws `n` images, float32 (n, noise_width): the input of `generate`.

        Raises:
            InputError: an argument breaks its rule.
        """
        _require_some("n", n)
        return self._noise(seed, temperature, truncation).rows(n)

    def generate(self, noise: np.ndarray) -> np.ndarray:
        """Noise (N, noise_width) -> images (N, C, H, W). Each image depends on its own row alone.

        Raises:
            InputError: `noise` is not finite numbers of that shape, with N at least 1.
        """
        graph = self._graph(GENERATOR)
        return graph.run(numbers("noise", noise, graph.shape), "image")[0]

    def decode(self, z: np.ndarray) -> np.ndarray:
        """Codes (N, latent) -> images (N, C, H, W).

        Raises:
            InputError: `z` is not finite numbers of that shape, with N at least 1, or the model has no codes.
        """
        graph = self._graph(DECODER)
        return graph.run(numbers("z", z, graph.shape), "image")[0]

    def encode(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Images (N, C, H, W) in [0, 1], or uint8 -> mean and log-variance of their codes, each (N, latent).

        The log-variance is None where the model maps each image to one code, without a distribution.

        Raises:
            InputError: `images` are not such images, with N at least 1, or the model has no codes.
        """
        graph = self._graph(ENCODER)
        mean, *log_variance = graph.run(pixels(images, graph.shape), *graph.outputs)
        return mean, log_variance[0] if log_variance else None

    def reconstruct(self, images: np.ndarray) -> np.ndarray:
        """Images (N, C, H, W), as `encode` takes them -> images decoded from the means of their codes."""
        return self.decode(self.encode(images)[0])

    def interpolate(
        self, start: np.ndarray, end: np.ndarray, steps: int = 16, path: paths.Path = "linear"
    ) -> np.ndarray:
        """Images (steps, C, H, W) decoded along a path between two codes (latent) or two images (C, H, W).

        Raises:
            InputError: `start` or `end` is neither, `steps` is below 2, or `path` is not "linear" or "slerp".
        """
        return self.decode(paths.path(self._code("start", start), self._code("end", end), steps, path))

    def traverse(
        self,
        start: np.ndarray,
        direction: str | int | np.ndarray,
        steps: int = 9,
        reach: tuple[float, float] | None = None,
    ) -> np.ndarray:
        """Images (steps, C, H, W) decoded along a direction from a code (latent) or an image (C, H, W).

        Args:
            start: where t = 0.
            direction: a name in `card["directions"]`, a dimension's index, or a vector (latent).
            steps: images, evenly spaced, at least 2.
            reach: the first t and the last; by default those of a named direction, and -3 and 3 for any other.

        Raises:
            InputError: an argument breaks its rule.
        """
        z, (vector, (low, high)) = self._code("start", start), self._direction(direction)
        low, high = reach or (low, high)
        return self.decode(paths.path(z + np.float32(low) * vector, z + np.float32(high) * vector, steps, "linear"))

    def _drawn(
        self, n: int, batch: int, seed: int, temperature: float, truncation: float | None, output: str
    ) -> Iterator[np.ndarray]:
        _require_some("n", n)
        _require_some("batch", batch)
        noise, graph = self._noise(seed, temperature, truncation), self._graph(GENERATOR)
        graph.room(min(n, batch), output)
        return (graph.run(noise.rows(min(batch, n - start)), output)[0] for start in range(0, n, batch))

    def _noise(self, seed: int, temperature: float, truncation: float | None) -> NoiseStream:
        return NoiseStream(self.noise_width, seed, temperature, truncation, self.categorical_noise)

    def _graph(self, name: str) -> OnnxGraph:
        """The graph of that file, opened once."""
        if name != GENERATOR and self.latent is None:
            raise InputError(f"the model must have codes, but {self._folder.path} makes images from noise alone")
        with self._lock:
            if name not in self._graphs:
                self._graphs[name] = self._opened(name)
            return self._graphs[name]

    def _opened(self, name: str) -> OnnxGraph:
        code = (self.latent or 0,)
        shapes = {
            "noise": (self.noise_width,),
            "image": self.image_shape,
            "z": code,
            "mean": code,
            "log_variance": code,
        }
        outputs = {output: shapes[output] for output in self._outputs(name)}
        file = _file(self._format) if self._format and name == DECODER else name
        dtype = np.uint8 if self._format == "uint8" and name == DECODER else np.float32
        where, taken = str(self._folder.path / file), (INPUTS[name], shapes[INPUTS[name]])
        return OnnxGraph(self._folder.read(file), where, taken, outputs, *self._session, dtype)

    def _outputs(self, name: str) -> list[str]:
        known = OUTPUTS[name]
        outputs = self.card.get("files", {}).get(name, {}).get("outputs")
        if outputs not in known:
            where = self._folder.path / CARD
            raise InputError(f"{where} must say that {name} gives {' or '.join(map(str, known))}, but says {outputs}")
        return outputs

    def _code(self, name: str, given: np.ndarray) -> np.ndarray:
        """The code of an image, or the code itself."""
        if self.latent and np.shape(given) == (self.latent,):
            return numbers(name, np.asarray(given)[None], (self.latent,))[0]
        if np.shape(given) != self.image_shape:
            expected = f"a code ({self.latent},) or an image {self.image_shape}"
            raise InputError(f"{name} must be {expected}, but has the shape {np.shape(given)}")
        return self.encode(np.asarray(given)[None])[0][0]

    def _direction(self, given: str | int | np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
        """Its vector (latent), and how far to go along it."""
        named = {each["name"]: each for each in self.card["directions"]}
        if isinstance(given, str):
            if given not in named:
                raise InputError(f"a direction must be one of {', '.join(map(one_line, named))}, but got {given!r}")
            return np.array(named[given]["vector"], np.float32), (named[given]["low"], named[given]["high"])
        latent = self.latent or 0
        if isinstance(given, int):
            if not 0 <= given < latent:
                raise InputError(f"a direction's dimension must be from 0 to {latent - 1}, but got {given}")
            return np.eye(latent, dtype=np.float32)[given], REACH
        return numbers("direction", np.asarray(given)[None], (latent,))[0], REACH


def _file(format: str) -> str:
    return f"decoder.{format}.onnx"


def _require_some(name: str, count: int) -> None:
    if count < 1:
        raise InputError(f"{name} must be at least 1, but got {count}")
