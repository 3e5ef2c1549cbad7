"""Exported models in an application: numpy and onnxruntime, no torch."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from latentmill.errors import InputError
from latentmill.runtime import paths
from latentmill.runtime.arguments import indices, numbers, pixels, require_finite
from latentmill.runtime.directions import Direction, find_direction, read_directions
from latentmill.runtime.drawing import Inputs, generator_inputs, given_inputs
from latentmill.runtime.facts import DECODER, ENCODER, GENERATOR, read_facts
from latentmill.runtime.folder import CARD, Folder
from latentmill.runtime.graph import CPU
from latentmill.runtime.guidance import Guidance
from latentmill.runtime.labels import Label, label_at, label_rows
from latentmill.runtime.loaded_graphs import LoadedGraphs


class Decoder:
    """Draws, decodes and encodes images with the files of one export.

    Images are float32 (N, C, H, W) in [0, 1], codes float32 (N, *code_shape); with a `codebook` they are indices below
    that, and there are no codes between two of them. A conditional model has `classes`; its
    methods take a `label`, one class for all images or a sequence with one for each. Where a graph takes none, because
    only codes are drawn by label, one may be given, and changes nothing. A file is read, checked against the manifest
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
        self._folder = Folder(folder)
        self.card = self._folder.card()  # what the model is, and its verdicts, in the words of format 2
        self._facts = facts = read_facts(self.card, str(self._folder.path / CARD))
        self.image_shape, self.latent, self.code_shape = facts.image_shape, facts.latent, facts.code_shape
        self.codebook = facts.entries or None  # its entries, where codes are indices, whole numbers below that
        self.noise_width, self.categorical_noise = facts.noise_width, facts.categorical_noise
        self.classes = facts.classes  # what a label may be; empty if the model is not conditional
        self.is_guided = facts.is_guided  # whether `guidance` may be other than 1
        self.directions = read_directions(self.card, facts.code_shape or (), str(self._folder.path / CARD))
        self.inputs = facts.inputs  # of each graph, by the name of its file
        self._graphs = LoadedGraphs(self._folder, self.card, facts, tuple(providers), threads, format)
        self.formats = self._graphs.formats  # choices of `format`

    def sample(
        self,
        n: int,
        seed: int,
        temperature: float = 1.0,
        truncation: float | None = None,
        label: Label = None,
        guidance: Guidance = 1.0,
    ) -> np.ndarray:
        """Draw `n` images: (n, C, H, W). The first k of n are those of k.

        The noise of a seed is the same on every platform, and the images are the same up to rounding, which may make a
        model with discrete codes or a Markov chain choose another image.

        Args:
            n: how many, at least 1 and at most 4 GiB of them; `stream` has no such limit.
            seed: of the noise, at least 0.
            temperature: the factor of the noise, except of columns that select one of several, and so of all noise of
                an autoregressive prior; below 1, images are more typical and less diverse.
            truncation: noise is drawn from -truncation to truncation only, which has a similar effect.
            label: of a conditional model; by default, labels are drawn by their frequency in training.
            guidance: of a guided model, at least 0; above 1, images are more typical of their label and less diverse.

        Raises:
            InputError: an argument breaks its rule.
        """
        return next(self.stream(n, n, seed, temperature, truncation, label, guidance))

    def stream(
        self,
        n: int,
        batch: int,
        seed: int,
        temperature: float = 1.0,
        truncation: float | None = None,
        label: Label = None,
        guidance: Guidance = 1.0,
    ) -> Iterator[np.ndarray]:
        """The images of `sample`, `batch` at a time, in memory that does not grow with `n`."""
        inputs = generator_inputs(self._facts, n, batch, seed, temperature, truncation, label, guidance)
        return self._drawn(inputs, min(n, batch), "image")

    def draw(
        self,
        n: int,
        seed: int,
        temperature: float = 1.0,
        truncation: float | None = None,
        label: Label = None,
        guidance: Guidance = 1.0,
    ) -> np.ndarray:
        """The codes (n, *code_shape) of the images that `sample` draws.

        Raises:
            InputError: an argument breaks its rule, or the model has no codes.
        """
        _ = self._graphs[DECODER]  # raises where there are none
        inputs = generator_inputs(self._facts, n, n, seed, temperature, truncation, label, guidance)
        return next(self._drawn(inputs, n, "z"))

    def labels(self, n: int, seed: int) -> list[str] | None:
        """The labels of the images that `sample` draws if none is given, or None if the model is not conditional.

        Raises:
            InputError: `n` is below 1, or `seed` below 0.
        """
        generator_inputs(self._facts, n, n, seed)  # raises where an argument is not right
        indices = label_rows(self._facts, None, n, seed).rows(n)
        return None if indices is None else [self.classes[index] for index in indices]

    def noise(self, n: int, seed: int, temperature: float = 1.0, truncation: float | None = None) -> np.ndarray:
        """The noise from which `sample` draws `n` images, float32 (n, noise_width): the input of `generate`.

        Raises:
            InputError: an argument breaks its rule.
        """
        return next(generator_inputs(self._facts, n, n, seed, temperature, truncation))["noise"]

    def generate(self, noise: np.ndarray, label: Label = None, guidance: Guidance = 1.0) -> np.ndarray:
        """Noise (N, noise_width) -> images (N, C, H, W). Each image depends on its own row alone.

        Raises:
            InputError: `noise` is not finite numbers of that shape, with N at least 1, or the label or the guidance is
                not right.
        """
        return self._run(GENERATOR, numbers("noise", noise, (self.noise_width,)), label, "image", guidance=guidance)[0]

    def decode(self, z: np.ndarray, label: Label = None) -> np.ndarray:
        """Codes (N, *code_shape) -> images (N, C, H, W).

        Raises:
            InputError: `z` is not finite numbers of that shape, or not indices into the codebook where there is one,
                the label is not right, or the model has no codes.
        """
        return self._run(DECODER, self._codes("z", z, self._graphs[DECODER].shape), label, "image")[0]

    def encode(self, images: np.ndarray, label: Label = None) -> tuple[np.ndarray, np.ndarray | None]:
        """Images (N, C, H, W) in [0, 1], or uint8 -> mean and log-variance of their codes, each (N, *code_shape).

        The log-variance is None where the model maps each image to one code, without a distribution.

        Raises:
            InputError: `images` are not such images, the label is not right, or the model has no codes.
        """
        graph = self._graphs[ENCODER]
        mean, *log_variance = self._run(ENCODER, pixels(images, graph.shape), label, *graph.outputs)
        return mean, log_variance[0] if log_variance else None

    def reconstruct(self, images: np.ndarray, label: Label = None) -> np.ndarray:
        """Images (N, C, H, W), as `encode` takes them -> images decoded from the means of their codes."""
        return self.decode(self.encode(images, label)[0], label)

    def interpolate(
        self, start: np.ndarray, end: np.ndarray, steps: int = 16, path: paths.Path = "linear", label: Label = None
    ) -> np.ndarray:
        """Images (steps, C, H, W) decoded along a path between two codes (*code_shape) or two images (C, H, W).

        Raises:
            InputError: `start` or `end` is neither, `steps` is below 2, `path` or `label` is not right, or codes are
                indices.
        """
        self._require_lines()
        self._graphs[DECODER].room(steps, "image")  # raises where that is too much
        first, last = self._code("start", start, label_at(label, 0)), self._code("end", end, label_at(label, -1))
        return self.decode(paths.path(first, last, steps, path), label)

    def traverse(
        self,
        start: np.ndarray,
        direction: Direction,
        steps: int = 9,
        reach: tuple[float, float] | None = None,
        label: Label = None,
    ) -> np.ndarray:
        """Images (steps, C, H, W) decoded along a direction from a code (*code_shape) or an image (C, H, W).

        Args:
            start: where t = 0; an image is encoded with the first of the labels.
            direction: a name in `card["directions"]`, a dimension's index, or a vector (*code_shape).
            steps: images, evenly spaced, at least 2.
            reach: the first t and the last; by default those of a named direction, and -3 and 3 for any other.
            label: of a conditional model.

        Raises:
            InputError: an argument breaks its rule, or codes are indices.
        """
        self._require_lines()
        self._graphs[DECODER].room(steps, "image")  # raises where that is too much
        z = self._code("start", start, label_at(label, 0))
        vector, named_reach = find_direction(self.directions, z.shape, direction)
        first, last = (z + each * vector.astype(np.float64) for each in reach or named_reach)
        return self.decode(paths.path(first, last, steps, "linear"), label)

    def _drawn(self, inputs: Iterator[Inputs], batch: int, output: str) -> Iterator[np.ndarray]:
        graph = self._graphs[GENERATOR]
        graph.room(batch, output)  # raises where that is too much
        return (require_finite(graph.where, graph.run(given, output))[0] for given in inputs)

    def _run(
        self, name: str, rows: np.ndarray, label: Label, *outputs: str, guidance: Guidance = 1.0
    ) -> list[np.ndarray]:
        graph = self._graphs[name]
        return require_finite(graph.where, graph.run(given_inputs(self._facts, name, rows, label, guidance), *outputs))

    def _codes(self, name: str, given: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        return indices(name, given, shape, self.codebook) if self.codebook else numbers(name, given, shape)

    def _require_lines(self) -> None:
        if self.codebook:
            rule = "a path needs codes between two codes"
            raise InputError(f"{rule}, but those of {self._folder.path} are indices into a codebook")

    def _code(self, name: str, given: np.ndarray, label: Label) -> np.ndarray:
        """The code of an image, or the code itself."""
        if self.code_shape and np.shape(given) == self.code_shape:
            return numbers(name, np.asarray(given)[None], self.code_shape)[0]
        if np.shape(given) != self.image_shape:
            expected = f"a code {self.code_shape} or an image {self.image_shape}"
            raise InputError(f"{name} must be {expected}, but has the shape {np.shape(given)}")
        return self.encode(np.asarray(given)[None], label)[0][0]
