"""What the service runs of an export: functions of rows, so that the rows of several requests can be put together."""

from typing import Any

import numpy as np

from latentmill import Decoder
from latentmill.errors import InputError


class Model:
    """One export, checked and loaded.

    Raises:
        InputError: it is not what its manifest says.
    """

    def __init__(self, folder: str, threads: int) -> None:
        self.decoder = Decoder(folder, threads=threads)
        self.card: dict[str, Any] = self.decoder.card
        self.noise, self.generate, self.decode = self.decoder.noise, self.decoder.generate, self.decoder.decode
        self.generate(self.noise(1, seed=0))  # a file that is damaged shows now
        if self.decoder.latent is not None:
            self.decode(np.zeros((1, self.decoder.latent), np.float32))

    def codes(self, rows: list[list[float]]) -> np.ndarray:
        """Codes as `decode` takes them: float32 (N, latent).

        Raises:
            InputError: a row has another width or a number too large, or the model has no codes.
        """
        latent = self.decoder.latent
        if latent is None:
            raise InputError(f"the model must have codes, but {self.card['entry']} makes images from noise alone")
        for at, row in enumerate(rows):
            if len(row) != latent:
                raise InputError(f"z must have rows of {latent} numbers, but row {at} has {len(row)}")
        with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite
            codes = np.array(rows, np.float32)
        if not np.isfinite(codes).all():
            raise InputError(f"z must be finite as float32, but got {np.array(rows)[~np.isfinite(codes)][0]}")
        return codes
