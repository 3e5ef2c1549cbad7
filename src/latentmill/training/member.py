"""A trial in training, and where its state is kept."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from latentmill.training.endings import EndedError
from latentmill.training.state import TrainingState


class Checkpoints(ABC):
    """Keeps the state of a trial, and restores that of an earlier run."""

    @abstractmethod
    def restore(self, state: TrainingState) -> None:
        """Bring a fresh `state` to where an earlier run was, if there was one."""

    @abstractmethod
    def after_epoch(self, state: TrainingState) -> None:
        """May raise `EndedError`, to stop the trial."""


@dataclass(eq=False)
class Member:
    """A trial in training."""

    state: TrainingState
    checkpoints: Checkpoints | None
    ended: EndedError | None = None  # why it ended early

    @property
    def is_over(self) -> bool:
        return self.ended is not None or self.state.is_over

    def save(self) -> None:
        """Called after an epoch."""
        try:
            if self.checkpoints:
                self.checkpoints.after_epoch(self.state)
        except EndedError as ended:
            self.ended = ended.with_traceback(None)  # whose frames would keep all members in memory
