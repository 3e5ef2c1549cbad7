"""Deep Boltzmann machine: pixels, and two layers of hidden units above them, without a direction.

    p(x, h, g) = exp(x'U h + h'V g + biases) / Z
    log p(x) >= E_q[log p(x, h, g)] + H(q),  q(h, g | x) a product over units, the best one by iteration

As x and g are connected with h alone, it is a Boltzmann machine of two layers, (x, g) and h, of which g is not
observed. The loss is that of a restricted Boltzmann machine, with the means of q(g | x) for g (Salakhutdinov & Hinton
2009).

Adds: undirected connections in every layer, so that both hidden layers settle together on how to read an image.
Lacks: fast inference: reading an image takes an iteration, and drawing one a long Markov chain.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import softplus

from latentmill.config import PositiveInt
from latentmill.contract import Batch, Phase, Terms
from latentmill.data.batches import Batches
from latentmill.draws import Noise
from latentmill.networks import Shape
from latentmill.networks.boltzmann import Boltzmann
from latentmill.networks.chained import DeepConfig, DeepModel
from latentmill.observations import shares_of_ones

JOINT_RATE = 0.1  # times the learning rate, where both layers learn


class Dbm(DeepModel):
    """The visible units of its machine are the pixels and the top layer."""

    class Config(DeepConfig):
        mean_field_steps: PositiveInt = 10  # of the iteration for q

    def __init__(self, config: Config, shape: Shape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        self.mean_field_steps = config.mean_field_steps
        self.machine = Boltzmann(self.pixels + config.top, config.hidden, config.chains)
        self.noise_width = self.machine.noise_width(config.sampling_steps)

    def fit(self, examples: Batches, val: Batches, generator: torch.Generator) -> None:
        p = shares_of_ones(examples).flatten()
        self.machine.start_from(torch.cat([p, p.new_full((self.top,), 0.5)]), generator)

    def phases(self) -> Sequence[Phase]:
        draws = {"x": self.observation.draw(self.shape), "steps": self.machine.steps(self.steps)}
        return (
            self.chained(Dbm.lower_loss, draws, name="lower", epochs=(0, self.greedy)),
            self.chained(Dbm.loss, draws, name="both", epochs=(self.greedy, None), rate=JOINT_RATE),
        )

    def lower_loss(self, batch: Batch, noise: Noise) -> Terms:
        return self.contrast(self.observed(batch, noise), noise, first=self.pixels)

    def loss(self, batch: Batch, noise: Noise) -> Terms:
        return self.contrast(self._completed(self.observed(batch, noise))[0], noise)

    def log_p_unnormalised(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """The bound: of the sum over h, given x and the mean of g, and the entropy of g."""
        v, logits = self._completed(x.flatten(1))
        entropy = (softplus(logits) - logits * torch.sigmoid(logits)).sum(1)
        return self.machine.log_p_unnormalised(v) + entropy

    @torch.no_grad()
    def _completed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels x (B, C H W) with the mean field of g, as visible units (B, V), and its logits (B, top)."""
        logits = x.new_zeros(len(x), self.top)
        for _ in range(self.mean_field_steps):
            h = torch.sigmoid(self.machine.up(torch.cat([x, torch.sigmoid(logits)], 1)))
            logits = self.machine.down(h)[:, self.pixels :]
        return torch.cat([x, torch.sigmoid(logits)], 1), logits
