"""The trials that a worker trains as one program; as a rule there is but one.

Trials that differ by numbers alone have weights of the same shapes. Stacked along a first dimension, one batched
program computes the step of all (`torch.func`), so that they share what a step costs beside its arithmetic. Each
member keeps its own order of the images, its own noise, learning rate and moments: it ends as it would alone, but for
the rounding of its sums.

Shapes: M members of a stack, B rows of a batch, C, H, W image.
"""

from collections.abc import Sequence

from latentmill.training.packed import Packed
from latentmill.training.ranks import Alone, Team
from latentmill.training.single import Single
from latentmill.training.state import Progress
from latentmill.training.step import Stack


def stack(members: Sequence[Progress], team: Team | None = None, compiled: bool = False) -> Stack:
    """Of one member, which a team may share, or of several; `compiled` by torch.compile, but for a team."""
    return Single(members[0], team or Alone(), compiled) if len(members) == 1 else Packed(members, compiled)
