"""Where the optimisation of a trial stands after an epoch; and the same as a checkpoint, without pickle."""

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
Moments = dict[str, dict[str, Tensor]]  # Adam's, by phase and parameter: exp_avg, exp_avg_sq and the step


@dataclass(eq=False)
class TrainingState:
    """All that a trial needs to go on as if it had never been interrupted."""

    model: Model
    config: TrainingConfig
    order: torch.Generator  # of the images
    noise: torch.Generator
    examples: int  # that an epoch has
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

    @property
    def epochs_allowed(self) -> int:
        """The epoch that reaches `max_steps` is the last."""
        return min(self.config.epochs, math.ceil(self.config.max_steps / self.steps_an_epoch))

    @property
    def steps_an_epoch(self) -> int:
        return math.ceil(self.examples / self.config.batch_size)

    @property
    def is_over(self) -> bool:
        """Whether the epochs, the steps or the patience are used up."""
        return self.epoch >= self.epochs_allowed or self.epoch - self.best_epoch >= self.config.patience

    def add(self, row: Row) -> None:
        """Take in an epoch's row; keeps the weights if they are the best yet."""
        best_loss = self.best_loss
        self.history.append(row)
        if row["val_loss"] < best_loss:
            self.best_epoch = self.epoch
            state = self.model.state_dict() | self.averages
            self.best_weights = {name: value.clone() for name, value in state.items()}

    def release(self) -> None:
        """Give back the memory of a trial that is over: its tensors are views of a whole pack's."""
        self.moments, self.averages, self.best_weights = {}, {}, {}
        self.model.to("meta")


def to_bytes(state: TrainingState) -> bytes:
    """One safetensors file, with what is no tensor in its header.

    Weights, moments, averages, the generators' states, and the best weights where they are not the present ones.
    """
    tensors = {f"model/{name}": value for name, value in state.model.state_dict().items()}
    for parameter, moments in state.moments.items():
        tensors |= {f"moments/{parameter}/{name}": value for name, value in moments.items()}
    tensors |= {f"average/{name}": value for name, value in state.averages.items()}
    if state.best_epoch != state.epoch:
        tensors |= {f"best/{name}": value for name, value in state.best_weights.items()}
    tensors |= {"generator/order": state.order.get_state(), "generator/noise": state.noise.get_state()}
    numbers = {"history": state.history, "best_epoch": state.best_epoch, "seconds": state.seconds}
    copies = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    return save(copies, {"numbers": json.dumps(numbers, allow_nan=False)})


def from_bytes(content: bytes, state: TrainingState) -> None:
    """Bring `state`, fresh, of the same trial, to where `to_bytes` saw it.

    Raises:
        InputError: the bytes are no such file, or of another model.
    """
    try:
        tensors = load(content)
        length = int.from_bytes(content[:8], "little")
        numbers: dict[str, Any] = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["numbers"])
        state.noise.set_state(tensors["generator/noise"])  # first: it fails where it is of another kind of device
        state.order.set_state(tensors["generator/order"])
        state.model.load_state_dict(_below("model/", tensors))
        state.moments = _moments(_below("moments/", tensors))
        state.averages = _below("average/", tensors)
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise InputError(f"a checkpoint must hold the state of its trial, but {error!r}") from None
    for name, value in numbers.items():
        setattr(state, name, value)
    state.best_weights = _below("best/", tensors) or _below("model/", tensors) | state.averages


def _moments(tensors: dict[str, Tensor]) -> Moments:
    found: Moments = {}
    for name, value in tensors.items():
        parameter, _, key = name.rpartition("/")
        found.setdefault(parameter, {})[key] = value
    return found


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
