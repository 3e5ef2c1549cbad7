"""The data-parallel group that trains one trial, each rank on its own rows of every batch; most trials have one rank.

Shapes: B rows of the whole batch, b rows of a rank.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from latentmill.contract import Reduction
from latentmill.data.batches import Indices

T = TypeVar("T")


@dataclass(frozen=True)
class Part:
    """A rank's part of a batch."""

    indices: Indices  # (b) of the examples
    rows: slice  # of the whole batch
    weight: float  # of its means in those of the whole batch: b / B


class Ranks(ABC):
    """How a rank takes part in a step."""

    is_rank_zero: bool  # whether it writes the checkpoints and the result of the group
    size: int

    @abstractmethod
    def part(self, indices: Indices) -> Part:
        """The rank's own part of the batch at `indices` (B)."""

    @abstractmethod
    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace the tensors, in place, by their sums over all ranks."""

    @abstractmethod
    def broadcast(self, decision: T) -> T:
        """The decision of rank zero, for all ranks: rounding may have led others to another."""

    def reduce(self, value: Tensor, part: Part, reduction: Reduction) -> Tensor:
        """The value of the whole batch, detached, from those that the ranks have computed from their parts."""
        if self.size == 1 or reduction == "same":
            return value.detach()
        total = value.detach() * (part.weight if reduction == "mean" else 1)
        self.sum([total])
        return total


class SingleRank(Ranks):
    """A trial of one worker: the part is the batch."""

    is_rank_zero, size = True, 1

    def part(self, indices: Indices) -> Part:
        return Part(indices, slice(None), 1.0)

    def sum(self, tensors: Sequence[Tensor]) -> None:
        pass

    def broadcast(self, decision: T) -> T:
        return decision


class DataParallel(Ranks):
    """The ranks of torch.distributed's process group."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.is_rank_zero = self.rank == 0

    def part(self, indices: Indices) -> Part:
        """Contiguous rows; where there are fewer rows than ranks, some get the first row with weight 0."""
        total = len(indices)
        rows = slice(total * self.rank // self.size, total * (self.rank + 1) // self.size)
        weight = (rows.stop - rows.start) / total
        rows = rows if weight else slice(0, 1)
        return Part(indices[rows], rows, weight)

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """In one message, because each message has its latency."""
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(total.view_as(tensor))

    def broadcast(self, decision: T) -> T:
        decisions = [decision]
        dist.broadcast_object_list(decisions, src=0)
        return decisions[0]
