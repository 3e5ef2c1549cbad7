"""Principal components of images too many to be held as floats: they come in chunks, over and over where need be.

Shapes: N images, B of them in a chunk, D pixels, d components, s directions of the search.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

DENSE_PIXELS = 2_500  # above this many the D×D covariance itself is too large, and a randomised search is used
MORE_DIRECTIONS, PASSES = 10, 8  # of the search: directions beside those asked for, and looks at all images

Chunks = Callable[[], Iterable[Tensor]]  # at each call the same images, float32 (B, D)


@dataclass(frozen=True, eq=False)
class Components:
    """The leading eigenvectors of the covariance of N images, with N - 1 in its denominator."""

    mean: Tensor  # float64 (D)
    directions: Tensor  # float64 (D, d), orthonormal, the most variable first
    variances: Tensor  # float64 (d), along them
    rest: float  # the mean variance along the other D - d


def principal_components(chunks: Chunks, count: int, passes: int = PASSES) -> Components:
    """The first `count` components, fewer than images and pixels.

    Exact up to `DENSE_PIXELS`; beyond, by subspace iteration from random directions (Halko et al. 2011, algorithm 4.4).
    """
    pixels = next(iter(chunks())).shape[1]
    return _from_covariance(chunks, count) if pixels <= DENSE_PIXELS else _searched(chunks, count, passes)


def _from_covariance(chunks: Chunks, count: int) -> Components:
    moments = _Moments()
    for chunk in chunks():
        moments.add(chunk.double(), None)
    values, vectors = torch.linalg.eigh(moments.covariance())
    return _components(moments, values.flip(0)[:count], vectors.flip(1)[:, :count])


def _searched(chunks: Chunks, count: int, passes: int) -> Components:
    """Each pass multiplies the directions by the covariance, and so turns them toward its leading eigenvectors."""
    directions = None
    for _ in range(passes):
        moments = _Moments()
        for chunk in chunks():
            if directions is None:
                directions = _random_directions(chunk, count)
            moments.add(chunk, directions)
        assert directions is not None
        multiplied = moments.covariance(directions)
        values, vectors = torch.linalg.eigh(directions.T @ multiplied)  # of the covariance within their span
        found = _components(moments, values.flip(0)[:count], (directions @ vectors).flip(1)[:, :count])
        directions = torch.linalg.qr(multiplied).Q
    return found


def _random_directions(chunk: Tensor, count: int) -> Tensor:
    """float64 (D, s), orthonormal."""
    size = (chunk.shape[1], min(count + MORE_DIRECTIONS, chunk.shape[1]))
    drawn = torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return torch.linalg.qr(drawn.to(chunk.device)).Q


class _Moments:
    """Sums over images, of their differences from the first: small numbers, whose squares lose little to rounding."""

    def __init__(self) -> None:
        self.images = 0

    def add(self, chunk: Tensor, directions: Tensor | None) -> None:
        """`chunk` (B, D); with `directions` (D, s) only their products with the covariance are wanted."""
        if not self.images:
            self.origin = chunk[:1].clone()  # (1, D)
            self.sum = torch.zeros(chunk.shape[1], dtype=torch.float64, device=chunk.device)  # (D)
            self.squares, self.products = 0.0, torch.zeros((), dtype=torch.float64, device=chunk.device)
        shifted = chunk - self.origin
        along = shifted if directions is None else shifted @ directions.to(shifted.dtype)  # (B, D or s)
        self.products = self.products + (shifted.T @ along).double()
        self.sum += shifted.sum(0, dtype=torch.float64)
        self.squares += float(shifted.square().sum(dtype=torch.float64))
        self.images += len(chunk)

    @property
    def mean(self) -> Tensor:
        return self.origin[0].double() + self.sum / self.images

    @property
    def total_variance(self) -> float:
        """The covariance's trace."""
        return (self.squares - float(self.sum.square().sum()) / self.images) / (self.images - 1)

    def covariance(self, directions: Tensor | None = None) -> Tensor:
        """(D, D), or its product with the `directions` that `add` was given, (D, s)."""
        along = self.sum if directions is None else self.sum @ directions
        return (self.products - torch.outer(self.sum, along) / self.images) / (self.images - 1)


def _components(moments: _Moments, values: Tensor, vectors: Tensor) -> Components:
    """The sign of a direction is free: its largest entry is made positive."""
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    variances = values.clamp(min=0)
    others = max(1, len(vectors) - len(values))
    rest = max(0.0, moments.total_variance - float(variances.sum())) / others
    return Components(moments.mean, vectors * largest.sign(), variances, rest)
