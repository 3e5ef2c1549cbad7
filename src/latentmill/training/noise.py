"""What steps are given to draw from. Shapes: K steps, M members of a pack, B rows of a batch."""

from collections.abc import Sequence

from torch import Tensor

from latentmill.contract import Model
from latentmill.draws import Draw
from latentmill.training.state import TrainingState

STEPS_AHEAD = 8  # at most
MADE_AHEAD = 2**21  # bytes a member, at most

Name = tuple[str, str]  # of a phase, and of what it draws


class NoiseAhead:
    """What the phases of every member's model declare, each member's from its own generator.

    A draw costs a call for each member, on a GPU a launch, so those of several steps are made in one. How many they are
    depends on nothing that a trial alone does not know, and none are left over for another epoch: so a member of a
    pack, and a trial that is resumed, see what they would have seen.
    """

    def __init__(self, members: Sequence[TrainingState]) -> None:
        self._members, self._draws = members, draws_of(members[0].model)
        self._made: list[dict[Name, Tensor]] = []  # of steps to come, the next one last
        self._rows = 0  # of the batches that they are for

    def next(self, rows: int) -> dict[Name, Tensor]:
        """That of a step, each (M, B, …), for batches of so many `rows` B."""
        if not self._made or rows != self._rows:
            ahead = steps_ahead(self._draws, rows)
            of_all = {name: self._of_all(draw, ahead, rows) for name, draw in self._draws.items()}
            self._rows = rows
            self._made = [{name: made[step] for name, made in of_all.items()} for step in reversed(range(ahead))]
        return self._made.pop()

    def forget(self) -> None:
        """An epoch has ended."""
        self._made.clear()

    def _of_all(self, draw: Draw, ahead: int, rows: int) -> Tensor:
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


def draws_of(model: Model) -> dict[Name, Draw]:
    """What a step of all phases needs."""
    return {(phase.name, name): draw for phase in model.phases() for name, draw in phase.draws.items()}


def steps_ahead(draws: dict[Name, Draw], rows: int) -> int:
    """For how many steps a member's draws are made at a time."""
    of_a_row = sum(draw.bytes_a_row for draw in draws.values())
    return max(1, min(STEPS_AHEAD, MADE_AHEAD // max(1, rows * of_a_row)))
