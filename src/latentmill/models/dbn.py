"""Deep belief network: a Boltzmann machine of two hidden layers, and pixels that follow the lower one.

    p(x, h, g) = p(x | h) p(h, g),  p(x | h) independent pixels,  p(h, g) = exp(h'V g + biases) / Z
    log p(x) >= E log 1/K sum_k p(x | h_k) p(h_k) / q(h_k | x),  h_k ~ q(h | x)

Greedy at first (Hinton et al. 2006): a machine of x and h, then one of the h of images and g, each for `greedy` epochs.
Then up-down: p(x | h) and the upper machine learn from images, and q from samples. Until then q is the lower machine's.

Adds: a second layer of hidden units, which learns which features of the first occur together.
Lacks: a tractable posterior: its likelihood is a bound, itself estimated, and samples need a Markov chain.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from latentmill.contract import Batch, Phase, Terms
from latentmill.data.batches import Batches
from latentmill.densities import bernoulli_log_prob
from latentmill.draws import Draw, Noise
from latentmill.networks import Shape
from latentmill.networks.boltzmann import Boltzmann, chosen, importance_weighted
from latentmill.networks.chained import DeepConfig, DeepModel
from latentmill.observations import shares_of_ones


class Dbn(DeepModel):
    """Its `machine` is the upper one, of h and g."""

    def __init__(self, config: DeepConfig, shape: Shape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        self.lower = Boltzmann(self.pixels, config.hidden, config.chains)
        self.machine = Boltzmann(config.hidden, config.top, config.chains)
        self.difference = nn.Parameter(torch.zeros(self.pixels, config.hidden))  # of the weights of q from the lower's
        self.noise_width = self.machine.noise_width(config.sampling_steps) + config.hidden

    def fit(self, examples: Batches, val: Batches, generator: torch.Generator) -> None:
        p = shares_of_ones(examples).flatten()
        self.lower.start_from(p, generator)
        self.machine.start_from(p.new_full((self.hidden,), 0.5), generator)

    def phases(self) -> Sequence[Phase]:
        lower = {"x": self.observation.draw(self.shape), "steps": self.lower.steps(self.steps)}
        upper = {"x": lower["x"], "h": Draw("uniform", (self.hidden,)), "steps": self.machine.steps(self.steps)}
        both = upper | {"y": Draw("uniform", (self.pixels,))}
        return (
            self.chained(Dbn.lower_loss, lower, "lower", name="lower", moves="lower.", epochs=(0, self.greedy)),
            self.chained(Dbn.upper_loss, upper, name="upper", moves="machine.", epochs=(self.greedy, 2 * self.greedy)),
            self.chained(Dbn.up_down_loss, both, name="up_down", epochs=(2 * self.greedy, None)),
        )

    def lower_loss(self, batch: Batch, noise: Noise) -> Terms:
        return self.contrast(self.observed(batch, noise), noise, "lower")

    def upper_loss(self, batch: Batch, noise: Noise) -> Terms:
        return self.contrast(chosen(self.lower.up(self.observed(batch, noise), self.difference), noise["h"]), noise)

    def up_down_loss(self, batch: Batch, noise: Noise) -> Terms:
        x = self.observed(batch, noise)
        h = chosen(self.lower.up(x, self.difference), noise["h"])
        upper, drawn, chains = self.machine.contrast(h, noise["steps"])
        y = chosen(self.lower.down(drawn), noise["y"])
        down = -bernoulli_log_prob(x, self.lower.down(h))
        up = -bernoulli_log_prob(drawn, self.lower.up(y, self.difference))
        return {"loss": upper + down + up, "up": up, "down": down, "machine.chains": chains}

    def log_p_unnormalised(self, x: Tensor, generator: torch.Generator) -> Tensor:
        x = x.flatten(1)

        def log_p(h: Tensor) -> Tensor:
            return bernoulli_log_prob(x, self.lower.down(h)) + self.machine.log_p_unnormalised(h)

        return importance_weighted(log_p, self.lower.up(x, self.difference), generator)

    def generate(self, noise: Tensor, label: Tensor | None = None) -> Tensor:
        width = noise.shape[1] - self.hidden
        g = self.machine.sample(noise[:, :width], self.sampling_steps)
        h = chosen(self.machine.down(g), torch.special.ndtr(noise[:, width:]))
        return torch.sigmoid(self.lower.down(h)).unflatten(1, self.shape)
