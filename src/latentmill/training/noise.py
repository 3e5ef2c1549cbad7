"""What the steps of a stack draw. Shapes: K steps, M members, B rows of a batch, C, H, W image."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from latentmill.data.batches import Batches, Indices
from latentmill.draws import Asked, Draw
from latentmill.training.progress import Progress

STEPS_AHEAD = 8  # at most
MADE_AHEAD = 2**21  # bytes a member, at most


class Noise:
    """The draws of every member's `forward`, each from its own generator.

    A draw costs a call for each member, on a GPU a launch, so those of several steps are made in one. How many they are
    depends on nothing that a trial alone does not know, and none are left over for another epoch: so a member of a
    stack, and a trial that is resumed, see what they would have seen.
    """

    def __init__(self, members: Sequence[Progress]) -> None:
        self._members = members
        self._asked: dict[int, tuple[list[Draw], int]] = {}  # by the rows of a batch: what is drawn, and K
        self._made: list[list[Tensor]] = []  # of steps to come, the next one last
        self._rows = 0  # of the batches that they are for

    def next(self, images: Batches, indices: Indices) -> list[Tensor]:
        """Those of a step, (M, B, …), for batches of as many images as there are at `indices` (B)."""
        if not self._made or len(indices) != self._rows:
            self._rows, self._made = len(indices), self._make(images, indices)
        return self._made.pop()

    def forget(self) -> None:
        """An epoch has ended."""
        self._made.clear()

    def _make(self, images: Batches, indices: Indices) -> list[list[Tensor]]:
        if len(indices) not in self._asked:
            draws = asked(self._members[0].model, "forward", images[indices])
            self._asked[len(indices)] = draws, steps_ahead(draws, images.device)
        draws, ahead = self._asked[len(indices)]
        of_all = [self._of_all(draw, ahead) for draw in draws]
        return [[made[step] for made in of_all] for step in reversed(range(ahead))]

    def _of_all(self, draw: Draw, ahead: int) -> Tensor:
        """(K, M, B, …)."""
        first = draw(self._members[0].noise, ahead)
        made = first.new_empty(ahead, len(self._members), *first.shape[1:])
        made[:, 0] = first
        for row, member in enumerate(self._members[1:], start=1):
            made[:, row] = draw(member.noise, ahead)
        return made


def steps_ahead(draws: Sequence[Draw], device: torch.device) -> int:
    """For how many steps a member's draws are made at a time."""
    scratch = torch.Generator(device)
    size = sum(draw(scratch, 1).nbytes for draw in draws)
    return max(1, min(STEPS_AHEAD, MADE_AHEAD // max(1, size)))


@torch.no_grad()
def asked(model: nn.Module, method: str, batch: Tensor) -> list[Draw]:
    """What a method draws for a batch (B, C, H, W), found by running it once."""
    generator = Asked(torch.Generator(batch.device))
    getattr(model, method)(batch, generator)
    return generator.draws
