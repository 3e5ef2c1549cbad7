"""Models of images that learn Boltzmann machines by persistent chains, and whose samples start from these."""

from math import prod
from typing import Any, ClassVar

import torch
from torch import Tensor

from latentmill.config import PositiveInt
from latentmill.contract import Generates, HasEnergy, Model, Objective, Phase, Terms
from latentmill.draws import Draws, Noise
from latentmill.networks import Shape
from latentmill.networks.boltzmann import Boltzmann, BoltzmannConfig
from latentmill.observations import Bernoulli


class ChainedModel(Model, Generates, HasEnergy):
    """The first column of noise selects one of the chains of `machine`; the rest is for the steps from there."""

    categorical_noise, chooses = 1, True

    def __init__(self, config: BoltzmannConfig, shape: Shape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        self.pixels, self.steps, self.sampling_steps = prod(shape), config.steps, config.sampling_steps
        self.observation = Bernoulli()

    def contrast(self, v: Tensor, noise: Noise, machine: str = "machine", first: int | None = None) -> Terms:
        """The terms of `Boltzmann.contrast`, of the machine of that name, by the noise `steps`."""
        learns = self.get_submodule(machine)
        assert isinstance(learns, Boltzmann)
        loss, _, chains = learns.contrast(v, noise["steps"], first)
        return {"loss": loss, f"{machine}.chains": chains}

    def chained(self, objective: Objective, draws: Draws, machine: str = "machine", **more: Any) -> Phase:
        """The phase of an objective with these terms."""
        return Phase(objective, draws, buffers={f"{machine}.chains": "same"}, couples_rows=True, **more)

    def generate(self, noise: Tensor, label: Tensor | None = None) -> Tensor:
        h = self.machine.sample(noise, self.sampling_steps)
        return torch.sigmoid(self.machine.down(h)[:, : self.pixels]).unflatten(1, self.shape)


class DeepConfig(BoltzmannConfig):
    """What every model of two hidden layers has."""

    top: PositiveInt = 500  # units of the layer above it
    greedy: PositiveInt = 30  # epochs in which a layer learns alone


class DeepModel(ChainedModel):
    """Of two hidden layers. Trials are ranked by their samples: the bound has log Z, which changes with each epoch."""

    Config: ClassVar[type[DeepConfig]] = DeepConfig
    is_bounded = True

    def __init__(self, config: DeepConfig, shape: Shape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        self.hidden, self.top, self.greedy = config.hidden, config.top, config.greedy
