"""What the steps of a stack draw. Shapes: K steps, M members, B rows of a batch, C, H, W image."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from latentmill.draws import Asked, Draw
from latentmill.training.progress import Progress

STEPS_AHEAD = {"cpu": 1, "cuda": 8}


def steps_ahead(device: torch.device) -> int:
    """How many steps' draws are made at a time."""
    return STEPS_AHEAD[device.type]


class Noise:
    """The draws of every member's `forward`, each from its own generator.

    On a GPU a draw is a launch for each member, so those of several steps are made in one. How many they are depends
    on nothing that a trial alone does not know, and none are left over for another epoch: so a member of a stack, and
    a trial that is resumed, see what they would have seen.
    """

    def __init__(self, members: Sequence[Progress]) -> None:
        self._members, self._ahead = members, steps_ahead(members[0].noise.device)
        self._draws: dict[torch.Size, list[Draw]] = {}
        self._made: list[tuple[Tensor, ...]] = []  # of steps to come, the next one last
        self._shape = torch.Size()  # of the batches that they are for

    def next(self, batch: Tensor) -> list[Tensor]:
        """Those of a step, (M, B, …), for batches like `batch` (B, C, H, W)."""
        if not self._made or batch.shape != self._shape:
            self._shape, self._made = batch.shape, self._make(batch)
        return list(self._made.pop())

    def forget(self) -> None:
        """An epoch has ended."""
        self._made.clear()

    def _make(self, batch: Tensor) -> list[tuple[Tensor, ...]]:
        if batch.shape not in self._draws:
            self._draws[batch.shape] = asked(self._members[0].model, "forward", batch)
        of_all = [
            torch.stack([draw(member.noise, self._ahead) for member in self._members], dim=1)  # (K, M, B, …)
            for draw in self._draws[batch.shape]
        ]
        return list(zip(*of_all, strict=True))[::-1]


@torch.no_grad()
def asked(model: nn.Module, method: str, batch: Tensor) -> list[Draw]:
    """What a method draws for a batch (B, C, H, W), found by running it once."""
    generator = Asked(torch.Generator(batch.device))
    getattr(model, method)(batch, generator)
    return generator.draws
