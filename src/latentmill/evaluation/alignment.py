"""The nearest training images of an image after small changes of both: a shift, zoom or rotation, and brightness.

The change that brings two images nearest to each other is found by linearisation: distances are to the plane that the
derivatives by all changes span, the tangent distance (Simard et al. 1993). Of the training images that are nearest in a
few principal components, those are candidates that are nearest by the query's own derivatives. To these it is measured
by the mean of the derivatives of both images, which is exact to the second order. Pixels at the edge, beyond which a
change may have moved something, don't count. Nor does the mean of a channel: that is its brightness.

Shapes: N training images (C, h, w), Q queries, K candidates, T changes, D values compared, P components.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from latentmill.evaluation.neighbours import Neighbours, TrainingSet
from latentmill.networks import Shape

EDGE = 1  # pixels that don't count, on each side
CHANGES = 4
COMPONENTS, FITTED = 32, 5_000  # at most, and the training images that they are fitted to
PROPOSED = 200  # the nearest without changes, among which candidates are
SPARE = 5  # candidates beside the neighbours
GROUP = 16  # training images, of which those are looked at one by one where one is near
VALUES = 2**23  # floats at a time, 32 MiB
DAMPING, LEAST = 1e-4, 1e-10  # of the changes: one that changes nothing must not be large


class AlignedSet(TrainingSet):
    """Training images as `AlignedPixels`, to search in; distances are those after small changes."""

    def __init__(self, rows: np.ndarray, shape: Shape) -> None:
        """`rows` (N, C h w) are images of that `shape`.

        Raises:
            ValueError: there are too few, as for a `TrainingSet`.
        """
        super().__init__(rows)
        self._shape, self._rows = shape, torch.from_numpy(rows)
        some = self._compared(self._rows[:: -(-len(rows) // FITTED)])
        components = torch.linalg.eigh(torch.cov(some.T))[1][:, -COMPONENTS:]  # (D, P)
        self._components = components.contiguous()
        reduced = torch.cat([self._compared(part) @ components for part in self._rows.split(FITTED)])
        none = -len(rows) % GROUP  # rows that are no images, and infinitely far away
        self._reduced_rows = pad(reduced, (0, 0, 0, none))  # (N + none, P)
        self._squares = pad(reduced.square().sum(1), (0, none), value=torch.inf)  # (N + none)

    def _search(self, queries: np.ndarray, k: int, total: int | None = None) -> Neighbours:
        """Always as exact, whatever the `total`."""
        width, components = self._components.shape
        needed = max(len(self._rows), PROPOSED * components, 3 * CHANGES * (k + SPARE) * width)
        size = max(1, VALUES // needed)
        found = [self._search_rows(part, k) for part in torch.from_numpy(queries).split(size)]
        distances, indices = (torch.cat(each).numpy() for each in zip(*found, strict=True))
        return Neighbours(distances, indices)

    def _search_rows(self, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """(Q, C h w) -> (Q, k) distances, and the indices."""
        compared, tangents = self._compared(rows), self._tangents(rows)
        candidates = self._candidates(compared, tangents, min(k + SPARE, len(self._rows)))  # (Q, K)
        known = self._rows[candidates]
        differences = self._compared(known) - compared[:, None]  # (Q, K, D)
        means = (tangents[:, None] + self._tangents(known)) / 2  # (Q, K, T, D)
        along = torch.einsum("qktd,qkd->qkt", means, differences)
        changes = torch.cholesky_solve(along[..., None], _factors(means))[..., 0]
        left = differences - torch.einsum("qkt,qktd->qkd", changes, means)
        distances, order = left.square().sum(-1).sqrt().sort(dim=1, stable=True)
        return distances[:, :k], candidates.gather(1, order[:, :k])

    def _candidates(self, compared: Tensor, tangents: Tensor, count: int) -> Tensor:
        """The nearest by the changes of the query alone, (Q, count): (Q, D) and (Q, T, D)."""
        queries, directions = compared @ self._components, tangents @ self._components
        every = torch.addmm(self._squares, queries, self._reduced_rows.T, alpha=-2)  # (Q, N + none), less a constant
        squared, proposed = _smallest(every, min(PROPOSED, len(self._rows)))
        differences = self._reduced_rows[proposed] - queries[:, None]  # (Q, proposed, P)
        directions = torch.linalg.solve_triangular(_factors(directions), directions, upper=False)  # (Q, T, P)
        squared -= (differences @ directions.mT).square().sum(-1)
        return proposed.gather(1, torch.topk(squared, count, largest=False, sorted=False)[1])

    def _compared(self, rows: Tensor) -> Tensor:
        """Images (…, C h w) -> (…, D)."""
        return _inner(rows.unflatten(-1, self._shape))

    def _tangents(self, rows: Tensor) -> Tensor:
        """The derivatives of images (…, C h w) by each change: (…, T, D)."""
        images = rows.unflatten(-1, self._shape)
        down, right = torch.gradient(images, dim=(-2, -1))
        x = torch.linspace(-0.5, 0.5, self._shape[2])
        y = torch.linspace(-0.5, 0.5, self._shape[1])[:, None]
        changes = (right, down, x * right + y * down, y * right - x * down)
        return torch.stack([_inner(each) for each in changes], dim=-2)


def _smallest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The smallest of each row (Q, N) and their places, both (Q, count), in a fraction of the time of `torch.topk`.

    They are in the groups whose smallest values are smallest: N / `GROUP` groups of values that are as far apart.
    """
    groups = values.unflatten(1, (GROUP, -1))
    apart = groups.shape[2]
    near = torch.topk(groups.amin(1), min(count, apart), largest=False, sorted=False)[1]  # (Q, near)
    within = groups.gather(2, near[:, None].expand(-1, GROUP, -1)).flatten(1)  # (Q, GROUP near)
    found, places = torch.topk(within, count, largest=False, sorted=False)
    return found, near.gather(1, places % near.shape[1]) + places // near.shape[1] * apart


def _inner(images: Tensor) -> Tensor:
    """(…, C, h, w) without the edges and the means of channels: (…, D)."""
    inner = images[..., EDGE:-EDGE, EDGE:-EDGE]
    return (inner - inner.mean((-2, -1), keepdim=True)).flatten(-3)


def _factors(tangents: Tensor) -> Tensor:
    """The Cholesky factors of their inner products, damped: (…, T, D) -> (…, T, T)."""
    products = tangents @ tangents.mT
    diagonal = products.diagonal(dim1=-2, dim2=-1)
    return torch.linalg.cholesky(products + torch.diag_embed(DAMPING * diagonal + LEAST))
