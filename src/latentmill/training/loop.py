"""The training loop: one path for every variant; a closed-form one is given no epochs."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from latentmill.config import TrainingConfig
from latentmill.data.batches import Batches
from latentmill.variant import Variant

Row = dict[str, float]  # an epoch's mean terms, prefixed train_ and val_, in nats per image
VALIDATION_SEED = 0  # the same noise at every validation, so that epochs and trials are compared like with like


class DivergedError(ArithmeticError):
    """The training loss became NaN or infinite."""


@dataclass(frozen=True)
class Fitted:
    """What training left behind, besides the weights."""

    history: list[Row]  # one row an epoch; empty for a closed-form variant
    best_epoch: int  # the one whose weights were kept, from 1; 0 for a closed-form variant
    criterion: float  # the variant's criterion on the validation images, in nats per image


def train(model: Variant, images: Batches, val: Batches, config: TrainingConfig | None, seed: int) -> Fitted:
    """Fit `model` to `images`; `config` is None for a closed-form variant.

    Raises:
        DivergedError: the training loss is not finite.
    """
    noise = torch.Generator(images.device).manual_seed(seed)
    model.before_training(images, noise)
    history, best_epoch = optimise(model, images, val, config, seed, noise) if config else ([], 0)
    model.eval()
    model.after_training(images, noise)
    return Fitted(history, best_epoch, validate(model.criterion, val))


def optimise(
    model: Variant, images: Batches, val: Batches, config: TrainingConfig, seed: int, noise: torch.Generator
) -> tuple[list[Row], int]:
    """Adam until the validation loss stops falling; leaves the weights of the best epoch and returns its number."""
    order = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(model.parameters(), config.learning_rate, fused=True)
    history: list[Row] = []
    best_loss, best_epoch, best_weights = math.inf, 0, {}
    steps_an_epoch = math.ceil(len(images) / config.batch_size)
    for epoch in range(1, min(config.epochs, math.ceil(config.max_steps / steps_an_epoch)) + 1):
        terms = train_epoch(model, images, optimiser, config.batch_size, order, noise)
        if not math.isfinite(terms["loss"]):
            raise DivergedError(f"the loss must be finite, but got {terms['loss']} in epoch {epoch}")
        val_loss = validate(lambda batch, noise: model(batch, noise)["loss"], val)
        history.append({f"train_{name}": value for name, value in terms.items()} | {"val_loss": val_loss})
        if val_loss < best_loss:
            best_loss, best_epoch, best_weights = val_loss, epoch, copy.deepcopy(model.state_dict())
        if epoch - best_epoch >= config.patience:
            break
    model.load_state_dict(best_weights)
    return history, best_epoch


def train_epoch(
    model: Variant,
    images: Batches,
    optimiser: torch.optim.Optimizer,
    batch_size: int,
    order: torch.Generator,
    noise: torch.Generator,
) -> Row:
    """One pass over `images` in an order drawn from `order`; returns the mean of each term."""
    model.train()
    totals: dict[str, Tensor] = {}
    for batch in images.epoch(batch_size, order):
        terms = model(batch, noise)
        optimiser.zero_grad()
        terms["loss"].backward()
        optimiser.step()
        for name, value in terms.items():
            totals[name] = totals.get(name, 0) + value.detach() * len(batch)
    return {name: float(total) / len(images) for name, total in totals.items()}


@torch.no_grad()
def validate(term: Callable[[Tensor, torch.Generator], Tensor], val: Batches) -> float:
    """The mean of `term` over the validation images, under noise that is the same at every call."""
    noise = torch.Generator(val.device).manual_seed(VALIDATION_SEED)
    return sum(float(term(batch, noise)) * len(batch) for batch in val.chunks()) / len(val)
