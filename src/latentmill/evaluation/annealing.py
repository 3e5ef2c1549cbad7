"""The partition function of a Boltzmann machine, by annealed importance sampling (Salakhutdinov & Murray 2008).

Chains go from independent units, whose partition function is known, through machines whose weights grow to those of the
machine. At temperature t, between 0 and 1, and without the hidden units:

    log f_t(v) = (1 - t) a'v + t b'v + sum_j log(1 + exp(t (v'W + c)_j)),  a the logits of the independent units

with b and c the biases of uncentred units. Each chain's product of f_t(v) / f_s(v) over successive temperatures s < t
has the mean Z / Z_0. Shapes: N chains, V visible and H hidden units.
"""

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from latentmill.densities import log_mean_exp
from latentmill.networks.boltzmann import Boltzmann, chosen

CHAINS = 100


@dataclass(frozen=True)
class Partition:
    """An estimate of log Z, in nats."""

    log_z: float
    standard_error: float  # of one mean; an estimate of few temperatures is further off than that


@torch.no_grad()
def estimate_partition(machine: Boltzmann, temperatures: int, generator: torch.Generator) -> Partition:
    """By `CHAINS` chains that pass so many temperatures. The estimate of Z has no bias, so that of log Z is low."""
    base = machine.base.expand(CHAINS, -1)  # (N, V)
    v = chosen(base, _uniform(base.shape, generator))
    log_w = _annealed(machine, v, torch.linspace(0, 1, temperatures + 1).tolist(), generator)
    return Partition(_log_z_0(machine) + float(log_mean_exp(log_w, 0)), _standard_error(log_w))


@torch.no_grad()
def estimate_partition_backward(
    machine: Boltzmann, v: Tensor, temperatures: int, generator: torch.Generator
) -> Partition:
    """By chains that go back from draws of the machine, visible units v (N, V): then the estimate of log Z is high.

    The two estimates enclose log Z (Grosse et al. 2015), if the draws are the machine's indeed.
    """
    log_w = _annealed(machine, v, torch.linspace(1, 0, temperatures + 1).tolist(), generator)
    return Partition(_log_z_0(machine) - float(log_mean_exp(log_w, 0)), _standard_error(log_w))


def _annealed(machine: Boltzmann, v: Tensor, temperatures: list[float], generator: torch.Generator) -> Tensor:
    """The log-weights of chains that start at v (N, V) and pass the temperatures: float64 (N)."""
    log_w = torch.zeros(len(v), dtype=torch.float64, device=v.device)
    for s, t in itertools.pairwise(temperatures):
        logits = machine.up(v)  # (N, H)
        gain = softplus(t * logits) - softplus(s * logits)
        log_w += ((t - s) * (v @ (machine.bias - machine.base)) + gain.sum(1)).double()
        h = chosen(t * logits, _uniform(logits.shape, generator))
        v = chosen((1 - t) * machine.base + t * machine.down(h), _uniform(v.shape, generator))
    return log_w


def _log_z_0(machine: Boltzmann) -> float:
    return float(softplus(machine.base.double()).sum()) + len(machine.hidden) * math.log(2)


def _standard_error(log_w: Tensor) -> float:
    """Of the log of the mean of exp(log_w) (N), by the delta method."""
    w = torch.exp(log_w - log_w.max())
    return float(w.std() / w.mean()) / math.sqrt(len(w))


def _uniform(size: torch.Size, generator: torch.Generator) -> Tensor:
    return torch.rand(size, generator=generator, device=generator.device)
