"""Buffers whose size `fit` chooses, such as the number of components: it is nowhere else than in the saved weights."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


def take_saved_sizes(module: nn.Module) -> None:
    """From now on, buffers of the module get the first dimension of those that are loaded; others must be the same."""
    module.register_load_state_dict_pre_hook(_resize)


def _resize(module: nn.Module, state: Mapping[str, Tensor], prefix: str, *_: Any) -> None:
    for name, buffer in module.named_buffers(recurse=False):
        saved = state.get(f"{prefix}{name}")
        if saved is not None and buffer.dim() and saved.dim() and saved.shape[1:] == buffer.shape[1:]:
            setattr(module, name, buffer.new_zeros(saved.shape))
