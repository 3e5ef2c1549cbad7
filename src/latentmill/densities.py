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


def discretized_logistic_log_prob(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """log of the logistic's mass in the cell of each 8-bit value behind x in [0, 1]; the outermost cells are infinite.

    With a and b the ends of a cell in units of the scale, its mass is sigmoid(b) sigmoid(-a) (1 - exp(a - b)).
    """
    centred, half = (x - mean) * torch.exp(-log_scale), torch.exp(-log_scale) / (2 * 255)
    is_least, is_most = x < 0.5 / 255, x > 1 - 0.5 / 255
    below, above = F.logsigmoid(centred + half), F.logsigmoid(half - centred)
    inner = torch.log(-torch.expm1(-2 * half))
    return below.masked_fill(is_most, 0) + above.masked_fill(is_least, 0) + inner.masked_fill(is_least | is_most, 0)


def standard_normal_log_prob(x: Tensor) -> Tensor:
    """log N(x; 0, 1) of each element."""
    zero = x.new_zeros(())
    return gaussian_log_prob(x, zero, zero)


def reparameterised_log_prob(noise: Tensor, log_variance: Tensor) -> Tensor:
    """log-density of each element of what `reparameterised` makes of the noise.

    From the noise, not from the draw: where a variance is tiny, that rounds to the mean, and 0 / 0 is not a number.
    """
    return standard_normal_log_prob(noise) - 0.5 * log_variance


def kl_from_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, 1)) of each dimension, at least 0 (Kingma & Welling 2014, app. B)."""
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1)


def kl_from_uniform(log_q: Tensor) -> Tensor:
    """KL of a distribution over C classes from the uniform one, log C less its entropy: (…, C) -> (…)."""
    return (log_q.exp() * log_q).sum(-1) + math.log(log_q.shape[-1])


def reparameterised(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """A draw from N(mean, exp(log_variance)), from standard normal noise (Kingma & Welling 2014)."""
    return mean + torch.exp(0.5 * log_variance) * noise


def half_squared_error(a: Tensor, b: Tensor) -> Tensor:
    """Half the squared distance of rows, -log N(a; b, I) up to a constant: (B, …), (B, …) -> (B)."""
    return 0.5 * (a - b).square().flatten(1).sum(1)


def log_mean_exp(log_weights: Tensor, dim: int) -> Tensor:
    """log of the mean of exp(log_weights) over `dim`, without overflow."""
    return torch.logsumexp(log_weights, dim) - math.log(log_weights.shape[dim])
