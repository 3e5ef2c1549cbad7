"""Log-probabilities and divergences as pure functions of tensors, in nats."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def bernoulli_log_prob(x: Tensor, logits: Tensor) -> Tensor:
    """log Bernoulli(x; sigmoid(logits)) for x in {0, 1}, summed over the last dimension."""
    return torch.linalg.vecdot(x, logits) - F.softplus(logits).sum(-1)


def gaussian_log_prob(x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """log N(x; mean, exp(log_variance)) of each element."""
    squared = (x - mean).square() * torch.exp(-log_variance)
    return -0.5 * (squared + log_variance + math.log(2 * math.pi))


def kl_from_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, 1)) of each dimension, at least 0 (Kingma & Welling 2014, app. B)."""
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1)


def log_mean_exp(log_weights: Tensor, dim: int) -> Tensor:
    """log of the mean of exp(log_weights) over `dim`, without overflow."""
    return torch.logsumexp(log_weights, dim) - math.log(log_weights.shape[dim])
