"""Augmentation: random changes of training images after which they show the same.

`flip` mirrors an image left to right with probability 1/2. `shift` moves it by up to a sixteenth of its height and
width, at least 1 pixel, uniformly in both directions; pixels at the edge are repeated into the gap.

Shapes: B rows of a batch, C, H, W image.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from latentmill.draws import Draw, Draws, Noise

SHIFT = 16  # a side over the pixels that it is moved by, at most
DRAWS = {"flip": Draw("uniform", ()), "shift": Draw("uniform", (2,))}  # of each image


def augmentation_draws(names: Sequence[str]) -> Draws:
    """The noise of these augmentations."""
    return {name: DRAWS[name] for name in names}


def augmented(images: Tensor, noise: Noise) -> Tensor:
    """Images (…, B, C, H, W), changed by the noise of `augmentation_draws`, each (…, B, …); all at once."""
    if not noise:
        return images
    height, width = images.shape[-2:]
    vertical, horizontal = noise["shift"].unbind(-1) if "shift" in noise else (None, None)
    rows, columns = _sources(height, vertical, images), _sources(width, horizontal, images)
    if "flip" in noise:
        columns = torch.where(noise["flip"][..., None] < 0.5, width - 1 - columns, columns)
    pixels = (rows[..., :, None] * width + columns[..., None, :]).flatten(-2)  # (…, B, H * W)
    chosen = pixels.unsqueeze(-2).expand(*images.shape[:-2], height * width)
    return images.flatten(-2).gather(-1, chosen).view_as(images)


def mirrored(images: np.ndarray) -> np.ndarray:
    """Images (N, C, H, W) mirrored left to right: a view."""
    return images[..., ::-1]


def _sources(side: int, uniform: Tensor | None, images: Tensor) -> Tensor:
    """Where the pixels along a side come from: (side), or (…, B, side) where images are moved."""
    places = torch.arange(side, device=images.device)
    if uniform is None:
        return places.expand(*images.shape[:-3], side)
    most = max(1, round(side / SHIFT))
    return (places + (uniform * (2 * most + 1)).long()[..., None] - most).clamp(0, side - 1)
