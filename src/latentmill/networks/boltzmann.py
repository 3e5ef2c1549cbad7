"""Two layers of binary units, each connected with all of the other layer and none of its own, and chains of them.

    p(v, h) = exp((v - a)'W (h - 1/2) + b'v + c'h) / Z

The weights are between centred units, a the shares of ones before training. That is the same family of distributions,
but learned sooner, and of three layers at all (Montavon & Müller 2012). Shapes: B rows of a batch, V visible and H
hidden units, S steps of Gibbs sampling, C chains; units are 0 or 1, or probabilities of 1. A step draws the hidden
units, then the visible ones.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, softplus

from latentmill.config import PositiveInt, Settings
from latentmill.densities import bernoulli_log_prob, log_mean_exp
from latentmill.draws import Draw

SPREAD = 0.01  # of the initial weights (Hinton 2012, section 8)
CENTRE = 0.5  # of hidden units
DRAWS = 50  # of hidden units for each example, for a bound, K


class BoltzmannConfig(Settings):
    """What every model of such machines has."""

    hidden: PositiveInt = 500  # units of the layer next to the pixels
    chains: PositiveInt = 1000  # that go on through training, and that samples start from
    steps: PositiveInt = 1  # of Gibbs sampling, of each chain in a step of training
    sampling_steps: PositiveInt = 10  # of Gibbs sampling, from a chain to a sample; each takes noise for all units


class Boltzmann(nn.Module):
    """Restricted Boltzmann machine (Smolensky 1986) with persistent chains (Tieleman 2008)."""

    base: Tensor  # (V), the logits of the visible units before training
    chains: Tensor  # (C, V), the visible units of each chain; those that are next stand first

    def __init__(self, visible: int, hidden: int, chains: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(SPREAD * torch.randn(visible, hidden))
        self.visible, self.hidden = nn.Parameter(torch.zeros(visible)), nn.Parameter(torch.zeros(hidden))  # b, c
        self.register_buffer("base", torch.zeros(visible))
        self.register_buffer("chains", torch.zeros(chains, visible))

    @torch.no_grad()
    def start_from(self, p: Tensor, generator: torch.Generator) -> None:
        """Visible units are 1 with probabilities `p` (V), those of the chains too: no chain starts at an example."""
        self.base.copy_(torch.logit(p))
        self.visible.copy_(self.base)
        self.chains.copy_(torch.rand(self.chains.shape, generator=generator, device=p.device) < p)

    def up(self, v: Tensor, difference: Tensor | None = None) -> Tensor:
        """The logits of hidden units, given visible ones: (…, V) -> (…, H).

        With a `difference` (V, H) from the weights, it alone of both is learned.
        """
        weights = self.weights if difference is None else self.weights.detach() + difference
        return (v - self.centre) @ weights + self.hidden

    def down(self, h: Tensor) -> Tensor:
        """The logits of visible units, given hidden ones: (…, H) -> (…, V)."""
        return (h - CENTRE) @ self.weights.T + self.visible

    @property
    def centre(self) -> Tensor:
        """The shares of ones of the visible units before training (V), a."""
        return torch.sigmoid(self.base)

    @property
    def bias(self) -> Tensor:
        """The logits of visible units (V) where all hidden ones are 0."""
        return self.visible - CENTRE * self.weights.sum(1)

    def log_p_unnormalised(self, v: Tensor) -> Tensor:
        """The log of the sum over all h, which is log p(v) + log Z: (…, V) -> (…)."""
        return v @ self.bias + softplus(self.up(v)).sum(-1)

    def steps(self, count: int) -> Draw:
        """The noise of so many steps."""
        return Draw("uniform", (count, len(self.hidden) + len(self.visible)))

    def gibbs(self, v: Tensor, uniform: Tensor, first: int | None = None) -> Tensor:
        """Steps from v (B, V), each of one row of uniform noise (B, S, H + V) -> (B, V).

        Where `first` says of how many visible units, only these are drawn, and the others held at their centre, where
        they have no influence.
        """
        v = self._held(v, first)
        for each in uniform.unbind(1):
            for_hidden, for_visible = each.split([len(self.hidden), len(self.visible)], dim=1)
            v = self._held(chosen(self.down(chosen(self.up(v), for_hidden)), for_visible), first)
        return v

    def _held(self, v: Tensor, first: int | None) -> Tensor:
        return v if first is None else torch.cat([v[:, :first], self.centre[first:].expand(len(v), -1)], 1)

    def contrast(self, v: Tensor, uniform: Tensor, first: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """A loss (B) whose gradient is that of -log p(v), with the B chains that are next in place of the model.

        The chains are first advanced by uniform noise (B, S, H + V). Also their visible units (B, V), and those of all
        chains then. Where `first` is given, only so many units of v are looked at.
        """
        following = torch.arange(len(uniform), device=uniform.device) % len(self.chains)
        drawn = self.gibbs(self.chains[following], uniform, first).detach()
        loss = self.log_p_unnormalised(drawn) - self.log_p_unnormalised(self._held(v, first))
        return loss, drawn, torch.cat([self.chains, drawn])[-len(self.chains) :]

    def noise_width(self, steps: int) -> int:
        """The columns of noise from which `sample` takes so many steps."""
        return 1 + steps * (len(self.hidden) + len(self.visible)) - len(self.visible)

    def sample(self, noise: Tensor, steps: int) -> Tensor:
        """Hidden units (B, H) after some steps from a chain, which the first column of normal noise (B, …) selects."""
        uniform = torch.special.ndtr(noise)
        v = self.chains[(uniform[:, 0] * len(self.chains)).long().clamp(max=len(self.chains) - 1)]
        last = uniform.shape[1] - len(self.hidden)
        v = self.gibbs(v, uniform[:, 1:last].unflatten(1, (steps - 1, -1))) if steps > 1 else v
        return chosen(self.up(v), uniform[:, last:])

    def pseudo_likelihood(self, v: Tensor, uniform: Tensor) -> Tensor:
        """V times the mean log p(v_i | all other units) of some visible units i, by noise from U(0, 1) (B, units): (B).

        The sum over all units is the log-pseudo-likelihood (Besag 1975).
        """
        units = (uniform * v.shape[1]).long()  #                                              (B, units)
        change = 1 - 2 * v.gather(1, units)  # of a unit that flips
        logits = self.up(v)
        flipped = logits[:, None] + change[..., None] * self.weights[units]  #                (B, units, H)
        gain = change * self.bias[units] + softplus(flipped).sum(2) - softplus(logits).sum(1)[:, None]
        return v.shape[1] * logsigmoid(-gain).mean(1)


def importance_weighted(log_p: Callable[[Tensor], Tensor], logits: Tensor, generator: torch.Generator) -> Tensor:
    """log 1/K sum_k p(h_k) / q(h_k), with K `DRAWS` of units h from q, by their `logits` (B, H): float64 (B)."""
    found = []
    for _ in range(DRAWS):
        h = chosen(logits, torch.rand(logits.shape, generator=generator, device=logits.device))
        found.append(log_p(h) - bernoulli_log_prob(h, logits))
    return log_mean_exp(torch.stack(found).double(), 0)


def chosen(logits: Tensor, uniform: Tensor) -> Tensor:
    """Units that are 1 with the probability of their logits, by noise from U(0, 1) of the same shape."""
    return (uniform < torch.sigmoid(logits)).to(logits.dtype)
