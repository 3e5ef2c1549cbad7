"""Factor analysers, and mixtures of them, fitted by expectation maximisation (Ghahramani & Hinton 1996).

    x = W z + mu + e,  z ~ N(0, I),  e ~ N(0, diag(psi))

The columns of W are rotated so that the posterior of z has independent dimensions. Shapes: N examples, B of them in a
chunk, D values each, d factors, M components of a mixture.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentmill.components import Chunks


@dataclass(frozen=True, eq=False)
class Factors:
    """One factor analyser; tensors may be those of a model."""

    mean: Tensor  # (D), mu
    loadings: Tensor  # (D, d), W, such that W' psi^-1 W is diagonal
    noise: Tensor  # (D), psi

    @property
    def precision(self) -> Tensor:
        """Of the posterior of each factor, at least 1: (d)."""
        return 1 + (self.loadings.square() / self.noise[:, None]).sum(0)

    def posterior(self, x: Tensor) -> Tensor:
        """The means of the factors, given x (B, D) -> (B, d)."""
        return ((x - self.mean) / self.noise) @ self.loadings / self.precision

    def log_p(self, x: Tensor) -> Tensor:
        """log N(x; mu, W W' + diag(psi)) (B, D) -> (B), in nats, by the lemma of Woodbury."""
        squares = ((x - self.mean).square() / self.noise).sum(1) - (self.posterior(x).square() * self.precision).sum(1)
        log_volume = self.noise.log().sum() + self.precision.log().sum()
        return -0.5 * (squares + log_volume + len(self.mean) * math.log(2 * math.pi))


def rotated(mean: Tensor, loadings: Tensor, noise: Tensor) -> Factors:
    """The same distribution of x, by factors that are independent given x, the most precise first."""
    _, vectors = torch.linalg.eigh(loadings.T @ (loadings / noise[:, None]))
    return Factors(mean, loadings @ vectors.flip(1), noise)


def log_joint(components: Sequence[Factors], log_weights: Tensor, x: Tensor) -> Tensor:
    """log p(x, m) of each component m: (B, M)."""
    return torch.stack([each.log_p(x) for each in components], 1) + log_weights


def improved(
    components: Sequence[Factors], log_weights: Tensor, chunks: Chunks, floor: float
) -> tuple[list[Factors], Tensor]:
    """One step of expectation maximisation; no value's variance of noise falls below `floor`."""
    sums = [_Sums(each) for each in components]
    for x in chunks():
        shares = torch.softmax(log_joint(components, log_weights, x), 1)  # (B, M)
        for each, share in zip(sums, shares.unbind(1), strict=True):
            each.add(x, share)
    counts = torch.stack([each.count for each in sums])
    return [each.maximum(floor) for each in sums], torch.log(counts / counts.sum()).to(log_weights)


def fitted(
    components: Sequence[Factors], chunks: Chunks, floor: float, iterations: int
) -> tuple[Sequence[Factors], Tensor]:
    """After so many steps from components that are equally likely, and the logs of their weights (M) then."""
    log_weights = components[0].mean.new_zeros(len(components))
    for _ in range(iterations):
        components, log_weights = improved(components, log_weights, chunks, floor)
    return components, log_weights


class _Sums:
    """Of examples, weighted by how much they belong to a component, and of its factors and a constant 1 beside them."""

    def __init__(self, factors: Factors) -> None:
        values, width = factors.loadings.shape
        zero = torch.zeros((), dtype=torch.float64, device=factors.mean.device)
        self.factors, self.count, self.squares = factors, zero.clone(), zero.new_zeros(values)
        self.products, self.moments = zero.new_zeros(values, width + 1), zero.new_zeros(width + 1, width + 1)

    def add(self, x: Tensor, share: Tensor) -> None:
        """Examples (B, D) with their shares (B)."""
        z = torch.cat([self.factors.posterior(x), torch.ones_like(share)[:, None]], 1)  # (B, d + 1)
        weighted = share[:, None] * z
        self.count += share.sum()
        self.squares += (share @ x.square()).double()
        self.products += (x.T @ weighted).double()
        self.moments += (z.T @ weighted).double()

    def maximum(self, floor: float) -> Factors:
        """What is most likely, given the factors; as it was where hardly an example belongs to it."""
        if self.count < 1:
            return self.factors
        moments = self.moments.clone()
        moments[:-1, :-1] += self.count * torch.diag(1 / self.factors.precision.double())
        both = torch.linalg.solve(moments, self.products.T).T  # (D, d + 1), W and mu
        noise = (self.squares - (both * self.products).sum(1)) / self.count
        found = rotated(both[:, -1], both[:, :-1], noise.clamp(min=floor))
        return Factors(*(each.to(self.factors.mean) for each in (found.mean, found.loadings, found.noise)))
