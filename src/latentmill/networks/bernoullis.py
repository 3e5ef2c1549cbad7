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
        """One step of expectation maximisation, with `pseudocount` examples of `shares` (D) in each component."""
        counts = shares.new_full(self.log_weights.shape, pseudocount)  # (M)
        ones = counts[:, None] * shares  # (M, D)
        for x in chunks():
            belongs = self.log_joint(x).softmax(1)  # (B, M)
            counts, ones = counts + belongs.sum(0), ones + belongs.T @ x
        return Bernoullis((counts / counts.sum()).log(), torch.logit(ones / counts[:, None]))


def fitted(first: Tensor, chunks: Chunks, shares: Tensor, pseudocount: float, iterations: int) -> Bernoullis:
    """From components halfway between examples `first` (M, D) and the `shares` of ones (D) of all."""
    log_weights = shares.new_full((len(first),), -math.log(len(first)))
    found = Bernoullis(log_weights, torch.logit((first + shares) / 2, eps=1e-3))
    for _ in range(iterations):
        found = found.improved(chunks, shares, pseudocount)
    return found
