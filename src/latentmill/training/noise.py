"""What the steps of a stack draw. Shapes: K steps, M members, B rows of a batch, C, H, W image."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from latentmill.data.batches import Batches
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
        self._draws: list[Draw] | None = None  # what a step draws, not yet known
        self._made: list[list[Tensor]] = []  # of steps to come, the next one last
        self._rows = 0  # of the batches that they are for

    def next(self, images: Batches, rows: int) -> list[Tensor]:
        """Those of a step, (M, B, …), for batches of so many `rows` B of the `images`."""
        if self._draws is None:
            self._draws = asked(self._members[0].model, "forward", images[:1])
        if not self._made or rows != self._rows:
            ahead = steps_ahead(self._draws, rows, images.device)
            of_all = [self._of_all(draw, ahead, rows) for draw in self._draws]
            self._rows, self._made = rows, [[made[step] for made in of_all] for step in reversed(range(ahead))]
        return self._made.pop()

    def forget(self) -> None:
        """An epoch has ended."""
        self._made.clear()

    def _of_all(self, draw: Draw, ahead: int, rows: int) -> Tensor:
        """(K, M, B, …)."""
        first = draw(self._members[0].noise, ahead, rows)
        if len(self._members) == 1:
            return first.unsqueeze(1)
        made = first.new_empty(ahead, len(self._members), *first.shape[1:])
        made[:, 0] = first
        for row, member in enumerate(self._members[1:], start=1):
            made[:, row] = draw(member.noise, ahead, rows)
        return made


def steps_ahead(draws: Sequence[Draw], rows: int, device: torch.device) -> int:
    """For how many steps a member's draws are made at a time."""
    scratch = torch.Generator(device)
    of_a_row = sum(draw(scratch, 1, 1).nbytes for draw in draws)
    return max(1, min(STEPS_AHEAD, MADE_AHEAD // max(1, rows * of_a_row)))


@torch.no_grad()
def asked(model: nn.Module, method: str, image: Tensor) -> list[Draw]:
    """What a method draws for a batch, found by running it once, on an image (1, C, H, W)."""
    generator = Asked(torch.Generator(image.device))
    getattr(model, method)(image, generator)
    return generator.draws
