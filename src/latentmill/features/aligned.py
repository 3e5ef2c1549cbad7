"""Small, blurred copies of images, in which those can be compared that a shift, zoom or rotation has made different."""

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from latentmill.features.encoder import apply, digest
from latentmill.networks import Shape

NAME = "aligned pixels"
SIDE = 14  # pixels of the small images; in smaller ones any change is large, and they are not compared
BLUR = 2 / 28  # standard deviation, of the image's side: a change of less than that is nearly linear


class AlignedPixels:
    """Not aligned yet: that is done where two of them are compared, by `AlignedSet`."""

    name = NAME

    def __init__(self, shape: Shape) -> None:
        """`shape` is that of the images, which `can_align`."""
        self.shape = (shape[0], SIDE, SIDE)  # of the small ones
        self._weights = [torch.from_numpy(_weights(side)) for side in shape[1:]]

    @cached_property
    def digest(self) -> str:
        return digest(*(each.numpy() for each in self._weights))

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return apply(self._reduced, images)

    def _reduced(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C h w)."""
        rows, columns = self._weights
        return torch.einsum("ih,bchw,jw->bcij", rows, images, columns).flatten(1)


def can_align(shape: Shape) -> bool:
    """Whether images of that shape are large enough."""
    return min(shape[1:]) >= SIDE


def _weights(side: int) -> np.ndarray:
    """Of each of `side` pixels in each pixel of a small image, a Gaussian around its centre: float32 (SIDE, side)."""
    centres = (np.arange(SIDE) + 0.5) * side / SIDE - 0.5
    found = np.exp(-0.5 * ((np.arange(side) - centres[:, None]) / (BLUR * side)) ** 2)
    return np.asarray(found / found.sum(1, keepdims=True), np.float32)
