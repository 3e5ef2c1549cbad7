"""The workers that train one trial together, each on its own rows of every batch; as a rule there is but one.

Shapes: B the rows of the whole batch, b one's own.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from latentmill.contract import Batch, Model
from latentmill.data.batches import Indices
from latentmill.draws import Noise

Forward = Callable[[Batch, Noise], dict[str, Tensor]]


@dataclass(frozen=True)
class Part:
    """What a member has of a batch."""

    indices: Indices  # (b) of the images
    rows: slice  # where they stand in the whole batch
    weight: float  # of its mean terms in those of the whole batch: b / B


class Team(ABC):
    """How a member takes part in a step."""

    leads: bool  # whether this member writes what the team has come to

    @abstractmethod
    def forward_of(self, model: Model) -> Forward:
        """The model's `forward`, such that gradients are averaged over the team."""

    @abstractmethod
    def part(self, indices: Indices) -> Part:
        """One's own part of the batch at `indices` (B)."""

    @abstractmethod
    def scaled(self, loss: Tensor, part: Part) -> Tensor:
        """The loss whose gradients, averaged over the team, are those of the mean over the whole batch."""

    @abstractmethod
    def mean(self, term: Tensor, part: Part) -> Tensor:
        """A term's mean over the whole batch, detached, from every member's mean over its own part."""

    @abstractmethod
    def agree(self, decided: bool) -> bool:
        """What the member that leads has decided."""


class Alone(Team):
    """The usual case: the part is the batch."""

    leads = True

    def forward_of(self, model: Model) -> Forward:
        return model

    def part(self, indices: Indices) -> Part:
        return Part(indices, slice(None), 1.0)

    def scaled(self, loss: Tensor, part: Part) -> Tensor:
        return loss

    def mean(self, term: Tensor, part: Part) -> Tensor:
        return term.detach()

    def agree(self, decided: bool) -> bool:
        return decided


class DataParallel(Team):
    """Members of the process group that torch.distributed has been told of."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.leads = self.rank == 0

    def forward_of(self, model: Model) -> Forward:
        # Buffers are the same everywhere; a static graph may have parameters that no step uses.
        return DistributedDataParallel(model, broadcast_buffers=False, static_graph=True)

    def part(self, indices: Indices) -> Part:
        """Contiguous rows; where there are fewer rows than members, some take the first with no weight."""
        total = len(indices)
        rows = slice(total * self.rank // self.size, total * (self.rank + 1) // self.size)
        weight = (rows.stop - rows.start) / total
        rows = rows if weight else slice(0, 1)
        return Part(indices[rows], rows, weight)

    def scaled(self, loss: Tensor, part: Part) -> Tensor:
        return loss * (part.weight * self.size)

    def mean(self, term: Tensor, part: Part) -> Tensor:
        total = term.detach() * part.weight
        dist.all_reduce(total)
        return total

    def agree(self, decided: bool) -> bool:
        told = [decided]
        dist.broadcast_object_list(told, src=0)
        return told[0]
