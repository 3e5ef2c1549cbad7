"""Deep belief network: a Boltzmann machine of two hidden layers, and pixels that follow the lower one.

    p(x, h, g) = p(x | h) p(h, g),  p(x | h) independent pixels,  p(h, g) = exp(h'V g + biases) / Z
    log p(x) >= E log 1/K sum_k p(x | h_k) p(h_k) / q(h_k | x),  h_k ~ q(h | x)

Greedy at first (Hinton et al. 2006): a machine of x and h, then one of the h of images and g, each for `greedy` epochs.
Then up-down: p(x | h) and the upper machine learn from images, and q from samples. Until then q is the lower machine's.

Adds: a second layer of hidden units, which learns which features of the first occur together.
Lacks: a tractable posterior: its likelihood is a bound, itself estimated, and samples need a Markov chain.
"""

from collections.abc import Sequence
from functools import partial
from math import prod

import torch
from torch import Tensor, nn

from latentmill.config import PositiveInt
from latentmill.contract import Batch, Generates, HasEnergy, Model, Phase, Terms
from latentmill.data.batches import Batches
from latentmill.densities import bernoulli_log_prob, log_mean_exp
from latentmill.draws import Draw, Noise
from latentmill.networks import Shape
from latentmill.networks.boltzmann import Boltzmann, BoltzmannConfig, chosen
from latentmill.observations import Bernoulli, shares_of_ones

DRAWS = 50  # of h for each image, K


class Dbn(Model, Generates, HasEnergy):
    """Trials are ranked by their samples: the bound has log Z, which changes from epoch to epoch."""

    noise_choices, chooses, is_bounded = 1, True, True

    class Config(BoltzmannConfig):
        top: PositiveInt = 500  # units of the layer above it
        greedy: PositiveInt = 30  # epochs in which each layer learns alone

    def __init__(self, config: Config, shape: Shape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        self.config, self.observation = config, Bernoulli()
        self.lower = Boltzmann(prod(shape), config.hidden, config.chains)
        self.machine = Boltzmann(config.hidden, config.top, config.chains)
        self.difference = nn.Parameter(torch.zeros(prod(shape), config.hidden))  # of the weights of q from the lower's
        self.noise_width = self.machine.noise_width(config.sampling_steps) + config.hidden

    def fit(self, examples: Batches, val: Batches, generator: torch.Generator) -> None:
        p = shares_of_ones(examples).flatten()
        self.lower.start_from(p, generator)
        self.machine.start_from(p.new_full((self.config.hidden,), 0.5), generator)

    def phases(self) -> Sequence[Phase]:
        phase, end = partial(Phase, couples_rows=True), 2 * self.config.greedy
        x, h = self.observation.draw(self.shape), Draw("uniform", (self.config.hidden,))
        lower = {"x": x, "steps": self.lower.steps(self.config.steps)}
        upper = {"x": x, "h": h, "steps": self.machine.steps(self.config.steps)}
        both = upper | {"y": Draw("uniform", (prod(self.shape),))}
        first, second, last = (0, end // 2), (end // 2, end), (end, None)
        return (
            phase(Dbn.lower_loss, lower, "lower", "lower.", epochs=first, buffers={"lower.chains": "same"}),
            phase(Dbn.upper_loss, upper, "upper", "machine.", epochs=second, buffers={"machine.chains": "same"}),
            phase(Dbn.up_down_loss, both, "up_down", epochs=last, buffers={"machine.chains": "same"}),
        )

    def lower_loss(self, batch: Batch, noise: Noise) -> Terms:
        x = self.observed(batch, noise)
        loss, _, chains = self.lower.contrast(x, noise["steps"])
        return {"loss": loss, "lower.chains": chains}

    def upper_loss(self, batch: Batch, noise: Noise) -> Terms:
        x = self.observed(batch, noise)
        loss, _, chains = self.machine.contrast(chosen(self._up(x), noise["h"]), noise["steps"])
        return {"loss": loss, "machine.chains": chains}

    def up_down_loss(self, batch: Batch, noise: Noise) -> Terms:
        x = self.observed(batch, noise)
        h = chosen(self._up(x), noise["h"])
        upper, drawn, chains = self.machine.contrast(h, noise["steps"])
        y = chosen(self.lower.down(drawn), noise["y"])
        down, up = -bernoulli_log_prob(x, self.lower.down(h)), -bernoulli_log_prob(drawn, self._up(y))
        return {"loss": upper + down + up, "up": up, "down": down, "machine.chains": chains}

    def log_p_unnormalised(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """The bound with K draws, by `generator`."""
        x = x.flatten(1)
        logits, found = self._up(x), list[Tensor]()
        for _ in range(DRAWS):
            h = chosen(logits, torch.rand(logits.shape, generator=generator, device=x.device))
            log_p = bernoulli_log_prob(x, self.lower.down(h)) + self.machine.log_p_unnormalised(h)
            found.append(log_p - bernoulli_log_prob(h, logits))
        return log_mean_exp(torch.stack(found).double(), 0)

    def generate(self, noise: Tensor, label: Tensor | None = None) -> Tensor:
        width = noise.shape[1] - self.config.hidden
        g = self.machine.sample(noise[:, :width], self.config.sampling_steps)
        h = chosen(self.machine.down(g), torch.special.ndtr(noise[:, width:]))
        return torch.sigmoid(self.lower.down(h)).unflatten(1, self.shape)

    def _up(self, x: Tensor) -> Tensor:
        """The logits of q(h | x)."""
        return (x - self.lower.centre) @ (self.lower.weights.detach() + self.difference) + self.lower.hidden
