"""The state of a trial between two epochs, and its checkpoint as bytes, without pickle."""

import json
import math
from dataclasses import dataclass, field

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from latentmill.config import TrainingConfig
from latentmill.contract import Model
from latentmill.errors import InputError
from latentmill.training.schedule import epochs_allowed, steps_an_epoch

HEADER = 2**28  # bytes, for the rows of a million epochs and the states of generators
Row = dict[str, float]  # an epoch's mean terms, prefixed train_ and val_, in nats per image
Moments = dict[str, dict[str, Tensor]]  # Adam's, by phase and parameter: exp_avg, exp_avg_sq and the step


@dataclass(eq=False)
class TrainingState:
    """All that a trial needs to resume as if it had never been interrupted."""

    model: Model
    config: TrainingConfig
    order: torch.Generator  # of the images
    noise: torch.Generator
    examples: int  # per epoch
    moments: Moments = field(default_factory=dict)
    averages: dict[str, Tensor] = field(default_factory=dict)  # of the weights, where the config has `ema`
    history: list[Row] = field(default_factory=list)
    best_epoch: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0  # so far, in all runs of the trial

    @property
    def epoch(self) -> int:
        return len(self.history)

    @property
    def untrained_epochs(self) -> int:
        """The first ones, before the last phase begins: a model in part untrained is not compared."""
        return max((phase.epochs[0] for phase in self.model.phases()), default=0)

    @property
    def best_loss(self) -> float:
        return self.history[self.best_epoch - 1]["val_loss"] if self.best_epoch else math.inf

    @property
    def epochs_allowed(self) -> int:
        return epochs_allowed(self.config, self.examples)

    @property
    def steps_an_epoch(self) -> int:
        return steps_an_epoch(self.config, self.examples)

    @property
    def is_over(self) -> bool:
        """Whether the epochs, the steps or the patience are used up."""
        waited = self.epoch - max(self.best_epoch, self.untrained_epochs)
        return self.epoch >= self.epochs_allowed or waited >= self.config.patience

    def add(self, row: Row) -> None:
        """Add an epoch's row, and keep the weights if they are the best so far, or the last are kept."""
        is_kept = row["val_loss"] < self.best_loss or self.config.keep == "last"
        self.history.append(row)
        if is_kept and self.epoch > self.untrained_epochs:
            self.best_epoch = self.epoch
            state = self.model.state_dict() | self.averages
            self.best_weights = {name: value.clone() for name, value in state.items()}

    def release(self) -> None:
        """Free the memory of a trial that is over: its tensors are views of those of the whole pack."""
        self.moments, self.averages, self.best_weights = {}, {}, {}
        self.model.to("meta")


def to_bytes(state: TrainingState, owner: str = "") -> bytes:
    """A safetensors file with history, counters and the name of its owner in its header.

    Its tensors are the weights, moments, averages, the generators' states, and the best weights if they are others.
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
    return save(copies, {"numbers": json.dumps(numbers, allow_nan=False), "owner": owner})


def most_bytes(model: Model) -> int:
    """More than a checkpoint of it can have: weights, two moments a phase, averages, the best weights, and a header."""
    weights = sum(each.nbytes for each in model.state_dict().values())
    return (3 + 2 * len(model.phases())) * weights + HEADER


def best_weights(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of the tensors of a checkpoint those that would be kept if the trial ended now; the averages, if it has any."""
    return _with_prefix("best/", tensors) or _with_prefix("model/", tensors) | _with_prefix("average/", tensors)


def from_bytes(content: bytes, state: TrainingState, owner: str = "") -> None:
    """Restore the state that `to_bytes` wrote for this owner into a fresh `state`, which an error leaves as it was.

    Raises:
        InputError: the bytes are no checkpoint, or that of another trial.
    """
    before = state.noise.get_state(), state.order.get_state()
    try:
        tensors, numbers = load(content), _numbers(content, owner)
        weights, moments = _with_prefix("model/", tensors), _moments(_with_prefix("moments/", tensors))
        _require_same_shapes(weights, state.model)
        state.noise.set_state(tensors["generator/noise"])  # fails where it is of another kind of device
        state.order.set_state(tensors["generator/order"])
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        state.noise.set_state(before[0])
        state.order.set_state(before[1])
        raise InputError(f"a checkpoint must hold the state of its trial, but {error!r}") from None
    state.model.load_state_dict(weights)
    state.moments, state.averages = moments, _with_prefix("average/", tensors)
    state.history, state.best_epoch, state.seconds = numbers
    state.best_weights = best_weights(tensors)


def _numbers(content: bytes, owner: str) -> tuple[list[Row], int, float]:
    """History, best epoch and seconds; raises an error of any kind where they are not these."""
    length = int.from_bytes(content[:8], "little")
    said = json.loads(content[8 : 8 + length])["__metadata__"]
    if said["owner"] != owner:
        raise ValueError(f"it is of {said['owner']}, not of {owner}")
    numbers = json.loads(said["numbers"])
    history = [{str(term): float(value) for term, value in row.items()} for row in numbers["history"]]
    best = int(numbers["best_epoch"])
    if not (0 <= best <= len(history) and all({"train_loss", "val_loss"} <= row.keys() for row in history)):
        raise ValueError("it has not a row with the losses of each epoch")
    return history, best, float(numbers["seconds"])


def _require_same_shapes(weights: dict[str, Tensor], model: Model) -> None:
    own = {name: value.shape for name, value in model.state_dict().items()}
    if {name: value.shape for name, value in weights.items()} != own:
        raise ValueError("its weights have other names or shapes")


def _moments(tensors: dict[str, Tensor]) -> Moments:
    found: Moments = {}
    for name, value in tensors.items():
        parameter, _, key = name.rpartition("/")
        found.setdefault(parameter, {})[key] = value
    return found


def _with_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
