"""What the service runs of an export: functions of rows, so that the rows of several requests can be put together."""

from typing import Any

import numpy as np
from batching import Rows, Run

from latentmill import Decoder
from latentmill.errors import InputError
from latentmill.runtime.guidance import guidance_rows
from latentmill.runtime.labels import Label, label_indices


class Model:
    """One export, checked and loaded.

    Raises:
        InputError: it is not what its manifest says.
    """

    def __init__(self, folder: str, threads: int) -> None:
        self.decoder = Decoder(folder, threads=threads)
        self.card: dict[str, Any] = self.decoder.card
        self.decodes_labels = "label" in self.decoder.inputs["decoder.onnx"]
        self.generate: Run = self.decoder.generate
        self.decode: Run = self.decoder.decode
        self.decoder.sample(1, seed=0)  # a file that is damaged shows now
        if self.decoder.code_shape is not None:
            self.decode(np.zeros((1, *self.decoder.code_shape), np.float32), self.decoder.labels(1, seed=0))

    def noise(self, n: int, seed: int, temperature: float = 1.0, label: Label = None, guidance: float = 1.0) -> Rows:
        """What `generate` takes for `n` images: noise, labels if the model is conditional, guidance if it is guided.

        Raises:
            InputError: an argument breaks its rule.
        """
        label = self.decoder.labels(n, seed) if label is None else label
        weights = guidance_rows(self.decoder.is_guided, guidance, n)
        given = self.decoder.noise(n, seed, temperature), *self._labels(n, label)
        return given if weights is None else (*given, weights)

    def codes(self, rows: list[list[float]], label: Label) -> Rows:
        """What `decode` takes: codes float32 (N, *code_shape) of flat rows, and labels if the decoder takes them.

        Raises:
            InputError: a row has another width or a number too large, the label is not right, or the model has no
                codes.
        """
        latent, shape = self.decoder.latent, self.decoder.code_shape
        if latent is None or shape is None:
            raise InputError(f"the model must have codes, but {self.card['entry']} makes images from noise alone")
        for at, row in enumerate(rows):
            if len(row) != latent:
                raise InputError(f"z must have rows of {latent} numbers, but row {at} has {len(row)}")
        with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite
            codes = np.array(rows, np.float32)
        if not np.isfinite(codes).all():
            raise InputError(f"z must be finite as float32, but got {np.array(rows)[~np.isfinite(codes)][0]}")
        labels = self._labels(len(rows), label) if self.decodes_labels or label is not None else ()
        return codes.reshape(-1, *shape), *(labels if self.decodes_labels else ())

    def _labels(self, n: int, label: Label) -> Rows:
        indices = label_indices(self.decoder.classes, label, n)
        return () if indices is None else (np.array(self.decoder.classes)[indices],)
