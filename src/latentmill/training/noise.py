"""The noise of training steps. Shapes: K steps, M members of a pack, B rows of a batch."""

from collections.abc import Sequence

from torch import Tensor

from latentmill.data.augmentation import augmentation_draws
from latentmill.draws import Draw
from latentmill.training.state import TrainingState

STEPS_AHEAD = 8  # at most
MADE_AHEAD = 2**21  # bytes per member, at most

AUGMENT = "augment"  # stands for a phase
Name = tuple[str, str]  # of a phase and of one of its draws


class NoiseAhead:
    """The noise that the phases declare, and that of augmentation, for every member from its own generator.

    A draw costs a call for each member, on a GPU a launch, so one call draws for several steps. Their number depends
    only on the trial itself, and none is left over at the end of an epoch: a packed or a resumed trial sees the same
    noise as one that is trained alone without interruption.
    """

    def __init__(self, members: Sequence[TrainingState]) -> None:
        self._members, self._draws = members, step_draws(members[0])
        self._made: list[dict[Name, Tensor]] = []  # of steps to come, the next one last
        self._rows = 0  # of the batches that they fit

    def next(self, rows: int) -> dict[Name, Tensor]:
        """The noise of one step, each (M, B, …), for batches of `rows` B."""
        if not self._made or rows != self._rows:
            ahead = steps_ahead(self._draws, rows)
            drawn = {name: self._draw(draw, ahead, rows) for name, draw in self._draws.items()}
            self._rows = rows
            self._made = [{name: each[step] for name, each in drawn.items()} for step in reversed(range(ahead))]
        return self._made.pop()

    def clear(self) -> None:
        """Called at the end of an epoch."""
        self._made.clear()

    def _draw(self, draw: Draw, ahead: int, rows: int) -> Tensor:
        """(K, M, B, …)."""
        first, *others = (member.noise for member in self._members)
        numbers = draw.rows(ahead * rows, first).unflatten(0, (ahead, rows))
        if not others:
            return numbers.unsqueeze(1)
        made = numbers.new_empty(ahead, len(self._members), *numbers.shape[1:])
        made[:, 0] = numbers
        for row, generator in enumerate(others, start=1):
            made[:, row] = draw.rows(ahead * rows, generator).unflatten(0, (ahead, rows))
        return made


def step_draws(member: TrainingState) -> dict[Name, Draw]:
    """The draws of all phases, and of the augmentation that they share."""
    found = {(phase.name, name): draw for phase in member.model.phases() for name, draw in phase.draws.items()}
    return found | {(AUGMENT, name): draw for name, draw in augmentation_draws(member.config.augment).items()}


def steps_ahead(draws: dict[Name, Draw], rows: int) -> int:
    """How many steps' noise one call draws."""
    row_bytes = sum(draw.bytes_a_row for draw in draws.values())
    return max(1, min(STEPS_AHEAD, MADE_AHEAD // max(1, rows * row_bytes)))
