"""A recurrent network that reads a small image of indices row by row: how likely each index is, given those before it.

Shapes: B rows of a batch, P places of the image, E entries of the codebook, U units.
"""

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor, nn

from latentmill.networks.config import Shape

SPREAD = 0.1  # of the initial weights of indices
Choose = Callable[[int, Tensor], Tensor]  # the number of a place, logits (B, E) -> indices (B)


class Recurrent(nn.Module):
    """Gated recurrent units (Cho et al. 2014). A place is given the index on its left, the one above, and the label."""

    def __init__(self, shape: Shape, entries: int, hidden: int, labels: int = 0) -> None:
        """For images of `shape` (…, w); `labels` is the number of different labels, 0 where none is given."""
        super().__init__()
        self.places, self.row, self.outside = prod(shape), shape[-1], entries  # the index of a place outside
        self.left, self.above = (nn.Parameter(SPREAD * torch.randn(entries + 1, 3 * hidden)) for _ in range(2))
        self.position = nn.Parameter(torch.zeros(self.places, 3 * hidden))
        self.labels = nn.Parameter(torch.zeros(labels, 3 * hidden)) if labels else None
        self.start = nn.Parameter(torch.zeros(hidden))
        self.memory, self.output = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, entries)

    def forward(self, indices: Tensor, label: Tensor | None = None, dropout: Tensor | None = None) -> Tensor:
        """Indices (B, P), labels (B), what dropout multiplies the units by (B, U) -> logits (B, P, E)."""
        outside = torch.full_like(indices[:, :1], self.outside)
        left = torch.cat([outside, indices[:, :-1]], dim=1)
        above = torch.cat([outside.expand(-1, self.row), indices[:, : -self.row]], dim=1)
        seen = self._seen(left, above, self.position, None if label is None else label[:, None])  # (B, P, 3 U)
        state, states = self.start.expand(seen.shape[0], -1), []
        for place in range(self.places):
            state = self._next(seen[:, place], state)
            states.append(state)
        read = torch.stack(states, dim=1)  #                                                        (B, P, U)
        return self.output(read if dropout is None else read * dropout[:, None])

    def drawn(self, choose: Choose, rows: Tensor, label: Tensor | None = None) -> Tensor:
        """Indices (B, P), of which `choose` takes one after the other; `rows` (B, …) says how many and where."""
        state, chosen = self.start.expand(rows.shape[0], -1), list[Tensor]()
        outside = torch.full_like(rows[:, 0], self.outside, dtype=torch.int64)
        for place in range(self.places):
            left = chosen[-1] if chosen else outside
            above = chosen[-self.row] if place >= self.row else outside
            state = self._next(self._seen(left, above, self.position[place], label), state)
            chosen.append(choose(place, self.output(state)))
        return torch.stack(chosen, dim=1)

    def _seen(self, left: Tensor, above: Tensor, position: Tensor, label: Tensor | None) -> Tensor:
        """What the gates are given, (B, 3 U), or (B, P, 3 U) for all places at once."""
        seen = self.left[left] + self.above[above] + position
        return seen if self.labels is None else seen + self.labels[label]

    def _next(self, seen: Tensor, state: Tensor) -> Tensor:
        """The state of the next place: (B, 3 U), (B, U) -> (B, U)."""
        reset, update, proposed = seen.chunk(3, dim=1)
        by_reset, by_update, by_proposed = self.memory(state).chunk(3, dim=1)
        proposed = torch.tanh(proposed + torch.sigmoid(reset + by_reset) * by_proposed)
        return proposed + torch.sigmoid(update + by_update) * (state - proposed)
