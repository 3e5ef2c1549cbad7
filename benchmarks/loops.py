"""Three epochs to time: ours, the usual DataLoader loop, and the matrix products that both must do.

Shapes: B batch, i inputs and o outputs of a layer.
"""

from collections.abc import Callable
from math import ceil

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from latentmill.config import TrainingConfig
from latentmill.data.batches import Batches
from latentmill.models.vae import Vae
from latentmill.training.endings import DivergenceCheck
from latentmill.training.loop import Setup, train_steps, trainer
from latentmill.training.state import TrainingState

Epoch = Callable[[], object]
BATCH, RATE = 128, 1e-3
PIXELS, HIDDEN, LATENT = 784, 400, 20
LAYERS = [(PIXELS, HIDDEN), (HIDDEN, 2 * LATENT), (LATENT, HIDDEN), (HIDDEN, PIXELS)]  # (i, o)


def our_epoch(images: np.ndarray) -> Epoch:
    """`train_steps` of one trial."""
    torch.manual_seed(0)
    model = Vae(Vae.Config(hidden=HIDDEN, latent=LATENT), (1, 28, 28))
    order, noise = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    config = TrainingConfig(batch_size=BATCH, learning_rate=RATE)
    batches = Batches(images)
    trained = trainer([TrainingState(model, config, order, noise, len(batches))], Setup(batches, batches))
    return lambda: train_steps(trained, batches, DivergenceCheck(trained, batches.device))


def loader_epoch(images: np.ndarray) -> Epoch:
    """The loop of the tutorials: float images in a data set, a DataLoader, plain Adam, `.item()` at each step."""
    torch.manual_seed(0)
    loader = DataLoader(TensorDataset(torch.tensor(images) / 255), batch_size=BATCH, shuffle=True)
    model = TutorialVae()
    optimiser = torch.optim.Adam(model.parameters(), RATE)
    return lambda: [tutorial_step(model, optimiser, batch) for (batch,) in loader]


class TutorialVae(nn.Module):
    """The same network and objective as `Vae`, written as in PyTorch's example."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc21, self.fc22 = nn.Linear(PIXELS, HIDDEN), nn.Linear(HIDDEN, LATENT), nn.Linear(HIDDEN, LATENT)
        self.fc3, self.fc4 = nn.Linear(LATENT, HIDDEN), nn.Linear(HIDDEN, PIXELS)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        hidden = F.relu(self.fc1(x))
        mean, log_variance = self.fc21(hidden), self.fc22(hidden)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        return self.fc4(F.relu(self.fc3(z))), mean, log_variance


def tutorial_step(model: TutorialVae, optimiser: torch.optim.Optimizer, batch: Tensor) -> float:
    x = torch.bernoulli(batch.view(-1, PIXELS))
    optimiser.zero_grad()
    logits, mean, log_variance = model(x)
    reconstruction = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    kl = -0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp())
    loss = (reconstruction + kl) / len(x)
    loss.backward()
    optimiser.step()
    return loss.item() * len(x)


def products_epoch(count: int) -> Epoch:
    """The products of the steps of an epoch on `count` images, in a step's order, each on operands of its own."""
    layers = [Products(inputs, outputs, is_first=index == 0) for index, (inputs, outputs) in enumerate(LAYERS)]
    return lambda: multiply(layers, ceil(count / BATCH))


def multiply(layers: list["Products"], steps: int) -> None:
    for _ in range(steps):
        for layer in layers:
            layer.forward()
        for layer in reversed(layers):
            layer.backward()


class Products:
    """What one linear layer multiplies in a step."""

    def __init__(self, inputs: int, outputs: int, is_first: bool) -> None:
        self.is_first = is_first  # images need no gradient
        self.x, self.x_gradient = torch.randn(BATCH, inputs), torch.empty(BATCH, inputs)  #    (B, i)
        self.y, self.y_gradient = torch.empty(BATCH, outputs), torch.randn(BATCH, outputs)  #  (B, o)
        self.weight = torch.randn(outputs, inputs)  #                                          (o, i)
        self.weight_gradient = torch.empty(outputs, inputs)

    def forward(self) -> None:
        torch.mm(self.x, self.weight.t(), out=self.y)

    def backward(self) -> None:
        if not self.is_first:
            torch.mm(self.y_gradient, self.weight, out=self.x_gradient)
        torch.mm(self.y_gradient.t(), self.x, out=self.weight_gradient)
