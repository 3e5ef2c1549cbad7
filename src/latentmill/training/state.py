"""Where the optimisation of a trial stands after an epoch; and the same as bytes, without pickle."""

import json
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from latentmill.config import TrainingConfig
from latentmill.contract import Model
from latentmill.errors import InputError

Row = dict[str, float]  # an epoch's mean terms, prefixed train_ and val_, in nats per image
Moments = dict[int, dict[str, Tensor]]  # Adam's, by the index of the parameter: exp_avg, exp_avg_sq and the step


@dataclass(eq=False)
class Progress:
    """All that a trial needs to go on as if it had never been interrupted."""

    model: Model
    config: TrainingConfig
    order: torch.Generator  # of the images
    noise: torch.Generator
    moments: Moments = field(default_factory=dict)
    averages: dict[str, Tensor] = field(default_factory=dict)  # of the weights, where the config asks for them
    history: list[Row] = field(default_factory=list)
    best_epoch: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0  # spent so far, in every run of the trial

    @property
    def epoch(self) -> int:
        return len(self.history)

    @property
    def best_loss(self) -> float:
        return self.history[self.best_epoch - 1]["val_loss"] if self.history else math.inf

    def is_over(self, images: int) -> bool:
        """Whether the epochs, the steps or the patience are used up."""
        return self.epoch >= epochs_allowed(images, self.config) or self.epoch - self.best_epoch >= self.config.patience

    def add(self, row: Row) -> None:
        """Take in an epoch's row; keeps the weights if they are the best yet."""
        best_loss = self.best_loss
        self.history.append(row)
        if row["val_loss"] < best_loss:
            self.best_epoch = self.epoch
            state = self.model.state_dict() | self.averages
            self.best_weights = {name: value.clone() for name, value in state.items()}

    def release(self) -> None:
        """Give back the memory of a trial that is over: its tensors are views of a whole stack's."""
        self.moments, self.averages, self.best_weights = {}, {}, {}
        self.model.to("meta")


def epochs_allowed(images: int, config: TrainingConfig) -> int:
    """The epoch that reaches `max_steps` is the last."""
    return min(config.epochs, math.ceil(config.max_steps / steps_an_epoch(images, config)))


def steps_an_epoch(images: int, config: TrainingConfig) -> int:
    return math.ceil(images / config.batch_size)


def to_bytes(progress: Progress) -> bytes:
    """One safetensors file, with what is no tensor in its header.

    Weights, moments, averages, the generators' states, and the best weights where they are not the present ones.
    """
    tensors = {f"model/{name}": value for name, value in progress.model.state_dict().items()}
    for index, moments in progress.moments.items():
        tensors |= {f"moments/{index}/{name}": value for name, value in moments.items()}
    tensors |= {f"average/{name}": value for name, value in progress.averages.items()}
    if progress.best_epoch != progress.epoch:
        tensors |= {f"best/{name}": value for name, value in progress.best_weights.items()}
    tensors |= {"generator/order": progress.order.get_state(), "generator/noise": progress.noise.get_state()}
    numbers = {"history": progress.history, "best_epoch": progress.best_epoch, "seconds": progress.seconds}
    copies = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    return save(copies, {"numbers": json.dumps(numbers, allow_nan=False)})


def from_bytes(content: bytes, progress: Progress) -> None:
    """Bring `progress`, fresh, of the same trial, to where `to_bytes` saw it.

    Raises:
        InputError: the bytes are no such file, or of another model.
    """
    try:
        tensors = load(content)
        length = int.from_bytes(content[:8], "little")
        numbers: dict[str, Any] = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["numbers"])
        progress.noise.set_state(tensors["generator/noise"])  # first: it fails where it is of another kind of device
        progress.order.set_state(tensors["generator/order"])
        progress.model.load_state_dict(_below("model/", tensors))
        progress.moments = _moments(_below("moments/", tensors))
        progress.averages = _below("average/", tensors)
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise InputError(f"a checkpoint must hold the progress of its trial, but {error!r}") from None
    for name, value in numbers.items():
        setattr(progress, name, value)
    progress.best_weights = _below("best/", tensors) or _below("model/", tensors) | progress.averages


def _moments(tensors: dict[str, Tensor]) -> Moments:
    found: Moments = {}
    for name, value in tensors.items():
        index, key = name.split("/")
        found.setdefault(int(index), {})[key] = value
    return found


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
