"""The progress of a trial as bytes: one safetensors file, with what is no tensor in its header."""

import json

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from latentmill.errors import InputError
from latentmill.training.loop import Progress


def to_bytes(progress: Progress) -> bytes:
    """Weights, Adam's moments, the generators' states, and the best weights where they are not the present ones."""
    tensors = {f"model/{name}": value for name, value in progress.model.state_dict().items()}
    for index, moments in progress.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{index}/{name}": value for name, value in moments.items()}
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
        numbers = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["numbers"])
        progress.model.load_state_dict(_below("model/", tensors))
        _load_moments(progress.optimiser, _below("optimiser/", tensors))
        progress.order.set_state(tensors["generator/order"])
        progress.noise.set_state(tensors["generator/noise"])
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise InputError(f"a checkpoint must hold the progress of its trial, but {error!r}") from None
    for name, value in numbers.items():
        setattr(progress, name, value)
    progress.best_weights = _below("best/", tensors) or _below("model/", tensors)


def _load_moments(optimiser: torch.optim.Optimizer, moments: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in moments.items():
        index, key = name.split("/")
        state.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
