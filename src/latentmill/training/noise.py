"""What the steps of a stack are given to draw from. Shapes: K steps, M members, B rows of a batch."""

from collections.abc import Sequence

from torch import Tensor

from latentmill.draws import Draw, Draws
from latentmill.training.state import Progress

STEPS_AHEAD = 8  # at most
MADE_AHEAD = 2**21  # bytes a member, at most


class NoiseAhead:
    """What every member's model declares, each from its own generator.

    A draw costs a call for each member, on a GPU a launch, so those of several steps are made in one. How many they are
    depends on nothing that a trial alone does not know, and none are left over for another epoch: so a member of a
    stack, and a trial that is resumed, see what they would have seen.
    """

    def __init__(self, members: Sequence[Progress]) -> None:
        self._members = members
        self._made: list[dict[str, Tensor]] = []  # of steps to come, the next one last
        self._rows = 0  # of the batches that they are for

    def next(self, rows: int) -> dict[str, Tensor]:
        """That of a step, each (M, B, …), for batches of so many `rows` B."""
        if not self._made or rows != self._rows:
            draws = self._members[0].model.draws
            ahead = steps_ahead(draws, rows)
            of_all = {name: self._of_all(draw, ahead, rows) for name, draw in draws.items()}
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


def steps_ahead(draws: Draws, rows: int) -> int:
    """For how many steps a member's draws are made at a time."""
    of_a_row = sum(draw.bytes_a_row for draw in draws.values())
    return max(1, min(STEPS_AHEAD, MADE_AHEAD // max(1, rows * of_a_row)))
