"""Features without labels: an encoder learns to recognise an image among others, however it is shifted or lit."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from latentmill.data.batches import Batches
from latentmill.features.encoder import WIDTH, apply, digest_of_weights, encoder, smaller

LEARNING_RATE, STEPS, BATCH = 2e-3, 200, 96  # the same work for any number of images: below 15 s on a core
TEMPERATURE = 0.2
SHIFT = 1 / 8  # at most, of a side
CONTRAST, BRIGHTNESS = 0.4, 0.2  # at most, as a share and of a range of 1; brightness by channel, which is colour
HIDDEN = 0.4  # of each side, in one rectangle
FAR = 1e4  # subtracted from the score of a view with itself


@dataclass(frozen=True, eq=False)
class SelfSupervisedFeatures:
    """The last layer of an encoder that is trained by instance discrimination (SimCLR, Chen et al. 2020).

    Views are shifted, lit differently and partly hidden, which suits any images. They are neither mirrored nor rotated,
    because a digit changes its meaning; neither blurred, resized nor noisy, because features must reveal that.
    """

    digest: str
    body: nn.Module  # (B, C, H, W) -> (B, WIDTH)
    name: str = "self-supervised"

    @classmethod
    def fit(cls, train: np.ndarray, seed: int, chosen: np.ndarray | None = None) -> "SelfSupervisedFeatures":
        """Train on images uint8 (N, C, H, W), or on those `chosen`, indices.

        The result is determined by them, `seed` and the number of threads.
        """
        body = trained_encoder(Batches(train), seed, chosen)
        return cls(digest_of_weights(body), body)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return apply(self.body, images)


def trained_encoder(images: Batches, seed: int, chosen: np.ndarray | None = None, steps: int = STEPS) -> nn.Sequential:
    """In evaluation mode, on the CPU; the same for the same images, those `chosen`, seed and number of threads."""
    chosen = np.arange(len(images)) if chosen is None else chosen
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = encoder((images.shape[0], images.shape[1], images.shape[2]))
        head = nn.Sequential(
            nn.Linear(WIDTH, WIDTH, bias=False), nn.BatchNorm1d(WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH)
        )
    _train(body, head, images, chosen, Generator().manual_seed(seed), steps)
    return body.eval()


def _train(
    body: nn.Sequential, head: nn.Module, images: Batches, some: np.ndarray, generator: Generator, steps: int
) -> None:
    """Train on `some` of the images, with a learning rate that falls to zero."""
    optimiser = torch.optim.Adam([*body.parameters(), *head.parameters()], LEARNING_RATE)
    shrink, rest = smaller(images.shape), body[1:]
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, steps)
    for _ in range(steps):
        index = torch.randint(len(some), (BATCH,), generator=generator)
        rows = images[images.indices(some[index.numpy()])].cpu()
        chosen = shrink(rows)  # the encoder's first layer, so that views have fewer pixels
        optimiser.zero_grad()
        views = torch.cat([view(chosen, generator), view(chosen, generator)])  # (2B, C, H, W)
        _contrastive_loss(F.normalize(head(rest(views)), dim=1), index).backward()
        optimiser.step()
        schedule.step()


def _contrastive_loss(rows: Tensor, index: Tensor) -> Tensor:
    """The cross-entropy of finding the other view of each image among all views (2B, D) of images `index` (B)."""
    image = torch.cat([index, index])
    count = len(index)
    same = image[:, None] == image  # an image that was drawn twice is not another image
    same[torch.arange(2 * count), (torch.arange(2 * count) + count) % (2 * count)] = False
    scores = (rows @ rows.T / TEMPERATURE).masked_fill(same, -FAR)
    return F.cross_entropy(scores, (torch.arange(2 * count) + count) % (2 * count))


def view(images: Tensor, generator: Generator) -> Tensor:
    """Each of (B, C, H, W) shifted, with its edge replicated, then lit differently, then partly hidden by its mean."""
    moved = _shifted(images, generator)
    count, channels = images.shape[:2]
    contrast = 1 + CONTRAST * (2 * torch.rand(count, 1, 1, 1, generator=generator) - 1)
    brightness = BRIGHTNESS * (2 * torch.rand(count, channels, 1, 1, generator=generator) - 1)
    mean = moved.mean((1, 2, 3), keepdim=True)
    lit = (moved - mean) * contrast + mean + brightness
    return torch.where(_rectangles(images, generator), mean, lit)


def _shifted(images: Tensor, generator: Generator) -> Tensor:
    count, channels, height, width = images.shape
    down, right = (max(1, round(SHIFT * side)) for side in (height, width))
    padded = F.pad(images, (right, right, down, down), mode="replicate")
    rows = torch.randint(2 * down + 1, (count, 1), generator=generator) + torch.arange(height)
    columns = torch.randint(2 * right + 1, (count, 1), generator=generator) + torch.arange(width)
    image, channel = torch.arange(count)[:, None, None, None], torch.arange(channels)[:, None, None]
    return padded[image, channel, rows[:, None, :, None], columns[:, None, None, :]]


def _rectangles(images: Tensor, generator: Generator) -> Tensor:
    """bool (B, 1, H, W): one in each image."""
    inside = [_interval(len(images), side, generator) for side in images.shape[2:]]
    return (inside[0][:, :, None] & inside[1][:, None, :])[:, None]


def _interval(count: int, side: int, generator: Generator) -> Tensor:
    """bool (count, side)."""
    length = max(1, round(HIDDEN * side))
    first = torch.randint(side - length + 1, (count, 1), generator=generator)
    places = torch.arange(side)
    return (places >= first) & (places < first + length)
