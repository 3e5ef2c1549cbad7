"""What mixtures share: how noise selects a component, and how their number is chosen and saved.

Shapes: M components, D values of each.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from latentmill.config import Settings
from latentmill.contract import Generates, HasComponents, Model
from latentmill.data.batches import Batches
from latentmill.draws import borders
from latentmill.errors import InputError
from latentmill.networks import Shape

Fitted = TypeVar("Fitted")


class MixtureModel(Model, Generates, HasComponents):
    """The first column of noise selects the component, by comparison with quantiles of N(0, 1)."""

    closed_form = True
    categorical_noise = 1
    log_weights: Tensor  # (M)
    borders: Tensor  # (M - 1), cumulative weights as quantiles of the standard normal

    def __init__(self, config: Settings, shape: Shape, classes: int, components: int) -> None:
        super().__init__(config, shape, classes)
        self.register_buffer("log_weights", torch.zeros(components))
        self.register_buffer("borders", torch.zeros(components - 1))

    @property
    def components(self) -> int:
        return len(self.log_weights)

    def weigh(self, log_weights: Tensor) -> None:
        """Take the weights (M) of the components, as logs."""
        self.log_weights, self.borders = log_weights, borders(log_weights.exp())


def require_enough(examples: Batches, components: int) -> None:
    """Raises InputError: there are fewer images than components."""
    if len(examples) < components:
        rule = "a mixture must have at most as many components as images"
        raise InputError(f"{rule}, but got {components=} for {len(examples)} images")


def candidates(numbers: Sequence[int], most: int) -> list[int]:
    """Those of the rising `numbers` of components up to `most`, or 1."""
    return [number for number in numbers if number <= most] or [1]


def most_likely(numbers: Sequence[int], fitted: Callable[[int], Fitted], log_p: Callable[[Fitted], float]) -> Fitted:
    """What is `fitted` with the last of rising `numbers` before `log_p`, that of held-out examples, falls."""
    best = fitted(numbers[0])
    if len(numbers) == 1:
        return best
    highest = log_p(best)
    for number in numbers[1:]:
        larger = fitted(number)
        found = log_p(larger)
        if found <= highest:
            break  # beyond the peak it only falls, and the largest mixtures take the longest
        best, highest = larger, found
    return best


def take_saved_sizes(module: nn.Module) -> None:
    """From now on, buffers of the module get the first dimension of those that are loaded; others must be the same.

    So a number that `fit` has chosen need be nowhere else than in the saved weights.
    """
    module.register_load_state_dict_pre_hook(_resize)


def _resize(module: nn.Module, state: Mapping[str, Tensor], prefix: str, *_: Any) -> None:
    for name, buffer in module.named_buffers(recurse=False):
        saved = state.get(f"{prefix}{name}")
        if saved is not None and buffer.dim() and saved.dim() and saved.shape[1:] == buffer.shape[1:]:
            setattr(module, name, buffer.new_zeros(saved.shape))
