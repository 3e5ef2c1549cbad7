"""The contract of everything that learns: learn from examples, turn noise into examples.

Examples are images for a model, and codes for a prior: a prior is a model whose examples are codes. What only some can
do is a capability, a class of its own here that they inherit and others ask for with `isinstance`.

Shapes: B rows of a batch, C, H, W image, K samples; a code has any shape, written as (…).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from latentmill.config import PositiveInt, Settings
from latentmill.data.batches import Batches
from latentmill.densities import (
    kl_from_standard_normal,
    reparameterised,
    reparameterised_log_prob,
    standard_normal_log_prob,
)
from latentmill.draws import Draw, Draws, Noise
from latentmill.networks import Shape
from latentmill.observations import Observation

if TYPE_CHECKING:  # so that the code of Boltzmann machines is not part of every trial's fingerprint
    from latentmill.networks.boltzmann import Boltzmann

# `image` (B, C, H, W) in [0, 1] or `code` (B, …), and `label` int64 (B) where there are any
Batch = Mapping[str, Tensor]
Terms = dict[str, Tensor]  # `loss` among them, each (B), in nats for a likelihood, summed over pixels
Reduction = Literal["same", "mean", "sum"]
Objective = Callable[[Any, Batch, Noise], Terms]  # of the model, a batch and noise: a pure function, draws nothing


@dataclass(frozen=True)
class Phase:
    """An objective, the parameters that it moves, and when."""

    objective: Objective
    draws: Draws = field(default_factory=dict)  # the noise that it is given for each row
    name: str = ""  # stands before those of its terms, where a model has several phases
    moves: str | tuple[str, ...] = ""  # what the names of its parameters begin with
    rate: float = 1.0  # times the learning rate of the trial
    betas: tuple[float, float] = (0.9, 0.999)  # of Adam
    every: int = 1  # steps
    epochs: tuple[int, int | None] = (0, None)  # counted from 0: from the first, to before the other, or to the end
    # Buffers of the model whose new values the objective returns among its terms, and how ranks combine theirs.
    buffers: Mapping[str, Reduction] = field(default_factory=dict)
    couples_rows: bool = False  # whether a row's loss depends on others: then ranks can't share a batch

    def is_due(self, step: int, epoch: int) -> bool:
        """Both are counted from 0, steps over all epochs."""
        first, end = self.epochs
        return step % self.every == 0 and first <= epoch and (end is None or epoch < end)


class Model(nn.Module, ABC):
    """A generative model. A subclass is final, stands in `models/<name>.py` or `priors/<name>.py`, has a `Config`.

    The docstring of a model's file ends with two sentences for the report, of what the model adds to simpler ones and
    what it still lacks: `Adds: …` and `Lacks: …`.
    """

    Config: ClassVar[type[Settings]]  # its hyperparameters: what params.yaml may set or search
    closed_form: ClassVar[bool] = False  # fitted wholly by `fit`, so it has no epochs
    learns: ClassVar[bool] = True  # whether there is anything to fit at all: else no trial is needed
    is_conditional: bool = False  # whether it needs labels, and its graphs take one

    def __init__(self, config: Settings, shape: Shape, classes: int = 0) -> None:
        """`shape` is that of an example, `classes` the number of labels, 0 where there are none."""
        super().__init__()
        self.shape = shape

    def fit(self, examples: Batches, val: Batches, generator: torch.Generator) -> None:
        """Fit what has a closed form, before any step; `val` is for choices."""

    def phases(self) -> Sequence[Phase]:
        """What a step optimises, in turn; nothing for a closed form."""
        return ()


class HasCriterion(ABC):
    """Epochs and trials compare by a number for each example, lower first; others are ranked by their samples."""

    criterion_draws: Draws  # the noise that `criterion` is given for each row

    @abstractmethod
    def criterion(self, batch: Batch, noise: Noise) -> Tensor:
        """(B), in evaluation mode. It must not depend on hyperparameters of the objective, or trials don't compare."""


class HasComponents(ABC):
    """A mixture, whose number of components `fit` may have chosen."""

    @property
    @abstractmethod
    def components(self) -> int: ...


class Generates(ABC):
    """Turns noise into examples."""

    noise_width: int
    categorical_noise: int = 0  # the first columns of noise, which select one of several; no temperature may scale them
    chooses: ClassVar[bool] = False  # whether it chooses on the way: then rounding may lead to another example

    @abstractmethod
    def generate(self, noise: Tensor, label: Tensor | None = None) -> Tensor:
        """Standard normal noise (B, noise_width), and labels (B) if conditional -> examples (B, …); draws nothing."""


class Guides(Generates):
    """May follow its label more strongly than examples do, so that they become more typical of it."""

    is_guided: bool  # whether it has learned to

    @abstractmethod
    def generate(self, noise: Tensor, label: Tensor | None = None, guidance: Tensor | None = None) -> Tensor:
        """With guidance (B): 0 ignores the label, 1 is the same as none, above 1 follows it more strongly."""


class Encodes(ABC):
    """Has a code for each image."""

    code_shape: Shape

    @abstractmethod
    def encode(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W) in [0, 1] -> codes (B, …), without noise."""


class Decodes(ABC):
    """Has an image for each code."""

    code_shape: Shape

    @abstractmethod
    def decode(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Codes (B, …) -> images (B, C, H, W) in [0, 1]."""


class HasPrior(Generates, Decodes):
    """Has a prior of its codes, `prior: own`, mostly learned with the rest; others may be fitted to them as well."""

    @abstractmethod
    def draw_code(self, noise: Tensor) -> Tensor:
        """Standard normal noise (B, noise_width) -> codes (B, …)."""

    def generate(self, noise: Tensor, label: Tensor | None = None) -> Tensor:
        return self.decode(self.draw_code(noise), label)


class HasCodebook(Encodes, Decodes):
    """Its codes are indices into a codebook: whole numbers from 0, as float32 like all codes, exact below 2^24."""

    entries: int  # of the codebook, which indices are below


class HasLikelihood(HasCriterion):
    """log p(x) is known in closed form; its negative is the criterion."""

    observation: Observation

    @abstractmethod
    def log_p_x(self, x: Tensor) -> Tensor:
        """Exact log-likelihood of observed x (B, C, H, W) -> (B), in nats."""

    def criterion(self, batch: Batch, noise: Noise) -> Tensor:
        return -self.log_p_x(self.observation.observed(batch["image"], noise["x"]))


class HasEnergy(ABC):
    """log p(x) is known but for the partition function of a Boltzmann machine, which can be estimated."""

    observation: Observation
    machine: "Boltzmann"
    is_bounded: ClassVar[bool] = False  # whether only a lower bound on log p(x) is known so

    def observed(self, batch: Batch, noise: Noise) -> Tensor:
        """The x of a batch as visible units: (B, C H W)."""
        return self.observation.observed(batch["image"], noise["x"]).flatten(1)

    @abstractmethod
    def log_p_unnormalised(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """log p(x) + log Z, or a lower bound on it, of observed x (B, C, H, W) -> (B), in nats."""


class HasBound(ABC):
    """log p(x) can be bounded by importance sampling, with codes from some q(z | x)."""

    observation: Observation
    code_shape: Shape

    @property
    def code_draw(self) -> Draw:
        """The noise that makes one code of q(z | x)."""
        return Draw("normal", self.code_shape)

    @abstractmethod
    def weighed_codes(self, x: Tensor, noise: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Codes z of q(z | x), and log p(z) - log q(z | x): x (B, C, H, W), noise (K, B, …) -> (K, B, …), (K, B)."""

    @abstractmethod
    def log_p_x_given_z(self, x: Tensor, z: Tensor, label: Tensor | None = None) -> Tensor:
        """x (B, C, H, W), z (K, B, …) -> (K, B), in nats."""


class HasPosterior(HasBound, Encodes):
    """q(z | x) is a Gaussian of independent dimensions, and p(z) N(0, I), unless the model has a prior of its own."""

    @abstractmethod
    def posterior(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z | x): (B, C, H, W) -> (B, …), (B, …)."""

    def encode(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        return self.posterior(images, label)[0]

    def log_p_z(self, z: Tensor) -> Tensor:
        """Codes (K, B, …) -> (K, B), in nats."""
        return standard_normal_log_prob(z).flatten(2).sum(2)

    def weighed_codes(self, x: Tensor, noise: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.posterior(x, label)
        z = reparameterised(mean, log_variance, noise)
        return z, self.log_p_z(z) - reparameterised_log_prob(noise, log_variance).flatten(2).sum(2)

    def bound(self, batch: Batch, noise: Noise) -> Terms:
        """The two parts of the negative evidence lower bound, each (B): -E_q log p(x | z), by one draw, and the KL."""
        x, z, kl = self.observed_and_encoded(batch, noise)
        log_p_x_given_z = self.log_p_x_given_z(x, z[None], batch.get("label"))[0]
        return {"reconstruction": -log_p_x_given_z, "kl": kl.flatten(1).sum(1)}

    def observed_and_encoded(self, batch: Batch, noise: Noise) -> tuple[Tensor, Tensor, Tensor]:
        """The x of the images (B, C, H, W), a draw from q(z | x), and its KL from N(0, I) in each dimension (B, …)."""
        x = self.observation.observed(batch["image"], noise["x"])
        mean, log_variance = self.posterior(x, batch.get("label"))
        return x, reparameterised(mean, log_variance, noise["z"]), kl_from_standard_normal(mean, log_variance)


class IndexPrior(Model, Generates):
    """A prior of the codes of a model that has a codebook."""

    def __init__(self, config: Settings, shape: Shape, classes: int = 0, entries: int = 0) -> None:
        """`entries` is the number of those in the codebook, which indices are below."""
        super().__init__(config, shape, classes)
        self.entries = entries


class LatentConfig(Settings):
    """What every model with codes has."""

    latent: PositiveInt = 20  # dimensions of a code


class LatentModel(Model, Encodes, Decodes):
    """A model that generates by decoding a code, which a prior draws."""

    def __init__(self, config: LatentConfig, shape: Shape, classes: int = 0) -> None:
        super().__init__(config, shape, classes)
        self.code_shape = (config.latent,)
