"""Restricted Boltzmann machine: pixels and hidden units that pull each other, without a direction.

    p(x) = 1/Z sum_h exp(x'W h + b'x + c'h)
    loss = F(x) - F(y),  F(x) = -log sum_h exp(...),  y drawn by a Markov chain

The gradient of the loss is that of -log p(x) if y is drawn from the model. With `learning: persistent` y comes
from Markov chains that go on through training (Tieleman 2008), with `contrastive` from one that starts at x (Hinton
2002), by `steps` of Gibbs sampling. Samples start at the chains, and go `sampling_steps` further.

Adds: binary hidden units whose effects multiply, so that one feature can veto another, and strokes come out crisp.
Lacks: a likelihood in closed form, for its partition function must be estimated, and samples without a Markov chain.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from torch import Tensor

from latentmill.config import NOT_SEARCHABLE
from latentmill.contract import Batch, HasCriterion, Phase, Terms
from latentmill.data.batches import Batches
from latentmill.draws import Draw, Noise
from latentmill.networks import Shape
from latentmill.networks.boltzmann import Boltzmann, BoltzmannConfig
from latentmill.networks.chained import ChainedModel
from latentmill.observations import shares_of_ones

PIXELS = 20  # of each image, for the pseudo-likelihood


class Rbm(ChainedModel, HasCriterion):
    """Trials compare by the pseudo-likelihood."""

    class Config(BoltzmannConfig):
        learning: Annotated[Literal["persistent", "contrastive"], NOT_SEARCHABLE] = "persistent"  # where y comes from

    def __init__(self, config: Config, shape: Shape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        self.is_persistent = config.learning == "persistent"
        self.machine = Boltzmann(self.pixels, config.hidden, config.chains)
        self.noise_width = self.machine.noise_width(config.sampling_steps)
        self.criterion_draws = {"x": self.observation.draw(shape), "pixels": Draw("uniform", (PIXELS,))}

    def fit(self, examples: Batches, val: Batches, generator: torch.Generator) -> None:
        self.machine.start_from(shares_of_ones(examples).flatten(), generator)

    def phases(self) -> Sequence[Phase]:
        draws = {"x": self.observation.draw(self.shape), "steps": self.machine.steps(self.steps)}
        if self.is_persistent:
            return (self.chained(Rbm.persistent_loss, draws),)
        return (Phase(Rbm.contrastive_loss, draws),)

    def contrastive_loss(self, batch: Batch, noise: Noise) -> Terms:
        x = self.observed(batch, noise)
        y = self.machine.gibbs(x, noise["steps"]).detach()
        return {"loss": self.machine.log_p_unnormalised(y) - self.machine.log_p_unnormalised(x)}

    def persistent_loss(self, batch: Batch, noise: Noise) -> Terms:
        return self.contrast(self.observed(batch, noise), noise)

    def criterion(self, batch: Batch, noise: Noise) -> Tensor:
        """The negative log-pseudo-likelihood, estimated from some pixels."""
        return -self.machine.pseudo_likelihood(self.observed(batch, noise), noise["pixels"])

    def log_p_unnormalised(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return self.machine.log_p_unnormalised(x.flatten(1))
