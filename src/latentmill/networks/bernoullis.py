"""Mixtures of independent Bernoullis, fitted by expectation maximisation (Bishop 2006, section 9.3.3).

Shapes: B examples in a chunk, D values of each, M components.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from latentmill.components import Chunks


@dataclass(frozen=True, eq=False)
class Bernoullis:
    """The components; tensors may be those of a model."""

    log_weights: Tensor  # (M)
    logits: Tensor  # (M, D), of the probabilities of 1

    def log_joint(self, x: Tensor) -> Tensor:
        """log p(x, m) of each component m, of x (B, D), its mean where x is between 0 and 1: (B, M)."""
        return x @ self.logits.T - softplus(self.logits).sum(1) + self.log_weights

    def log_p(self, x: Tensor) -> Tensor:
        """log p(x) (B, D) -> (B), in nats."""
        return self.log_joint(x).logsumexp(1)

    def improved(self, chunks: Chunks, shares: Tensor, pseudocount: float) -> "Bernoullis":
        """One step of expectation maximisation, with `pseudocount` examples of `shares` (D, float64) in each component.

        Zeros are summed beside ones: a share of ones may be so near to 1 that the difference is lost to rounding.
        """
        counts = shares.new_full(self.log_weights.shape, pseudocount)  # (M)
        ones, zeros = counts[:, None] * shares, counts[:, None] * (1 - shares)  # (M, D)
        for x in chunks():
            belongs = self.log_joint(x).softmax(1)  # (B, M)
            counts, ones, zeros = counts + belongs.sum(0), ones + belongs.T @ x, zeros + belongs.T @ (1 - x)
        log_weights, logits = (counts / counts.sum()).log(), ones.log() - zeros.log()
        return Bernoullis(log_weights.to(self.log_weights), logits.to(self.logits))


def fitted(first: Tensor, chunks: Chunks, shares: Tensor, pseudocount: float, iterations: int) -> Bernoullis:
    """From components halfway between examples `first` (M, D) and the `shares` of ones (D), float64, of all."""
    log_weights = first.new_full((len(first),), -math.log(len(first)))
    found = Bernoullis(log_weights, torch.logit((first + shares.to(first)) / 2, eps=1e-3))
    for _ in range(iterations):
        found = found.improved(chunks, shares, pseudocount)
    return found
