"""One step after the other: a loop in Python, and an operator `Scan` in a graph of ONNX."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

State = TypeVar("State")


def scanned(
    step: Callable[[State, tuple[Tensor, ...]], tuple[State, Tensor]], state: State, sequences: tuple[Tensor, ...]
) -> Tensor:
    """The outputs of `step`, (S, …), for the elements along the first dimension of each sequence (S, …), in turn.

    `step` is given the state, a tensor or a tuple of some, and an element of each sequence, and returns the next state.
    """
    if torch.compiler.is_exporting():  # a loop of 784 steps would be unrolled, which takes torch minutes to translate
        from torch._higher_order_ops.scan import scan

        return scan(step, state, sequences, dim=0)[1]
    outputs = []
    for elements in zip(*sequences, strict=True):
        state, output = step(state, elements)
        outputs.append(output)
    return torch.stack(outputs)
