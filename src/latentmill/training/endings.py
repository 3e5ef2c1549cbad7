"""Why a trial ends early: it is pruned, out of time, or its loss is no longer finite."""

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from latentmill.training.state import Row
from latentmill.training.trainer import Trainer

STEPS_BETWEEN_CHECKS = 50  # of the loss on a GPU, where reading it waits for the device; on a CPU every step


class EndedError(Exception, ABC):
    """A trial ends early; the other members of its pack go on."""

    @property
    @abstractmethod
    def record(self) -> dict[str, Any]:
        """How it ended: `status` and its details."""


class PrunedError(EndedError):
    """ASHA prunes a trial after an epoch that is a rung."""

    def __init__(self, history: list[Row]) -> None:
        """`history` has a row for each epoch so far."""
        super().__init__(f"pruned after epoch {len(history)}")
        self.history = history

    @property
    def record(self) -> dict[str, Any]:
        criterion = self.history[-1]["val_loss"]
        return {"status": "pruned", "epoch": len(self.history), "criterion": criterion, "history": self.history}


class OutOfTimeError(EndedError):
    """The time for models is over, the rest is reserved for priors; a later sweep resumes after the last epoch."""

    def __init__(self, epoch: int) -> None:
        super().__init__(f"out of time after epoch {epoch}")

    @property
    def record(self) -> dict[str, Any]:
        return {"status": "unfinished", "error": str(self)}


class DivergedError(EndedError, ArithmeticError):
    """A loss became NaN or infinite."""

    def __init__(self, value: float, step: int, last_finite_loss: float | None) -> None:
        """`step` counts batches from 1, over all epochs."""
        super().__init__(f"the loss must be finite, but got {value} at step {step} after {last_finite_loss}")
        self.step, self.last_finite_loss = step, last_finite_loss

    @property
    def record(self) -> dict[str, Any]:
        numbers = {"step": self.step, "last_finite_loss": self.last_finite_loss}
        return {"status": "diverged", "error": str(self)} | numbers


class DivergenceCheck:
    """Finds the members of a pack whose losses are no longer finite."""

    def __init__(self, trained: Trainer, device: torch.device) -> None:
        first = trained.members[0]
        self.step = first.epoch * first.steps_an_epoch
        self.last = [each.history[-1]["train_loss"] if each.history else None for each in trained.members]
        self.every = 1 if device.type == "cpu" else STEPS_BETWEEN_CHECKS
        self.unchecked: list[Tensor] = []  # (M) for each step
        self.diverged: dict[int, DivergedError] = {}  # by the member's row

    def add(self, losses: Tensor) -> bool:
        """Take in the losses (M) of a step; returns whether all members are known to have diverged."""
        self.unchecked.append(losses)
        if len(self.unchecked) >= self.every:
            self.check()
        return len(self.diverged) == len(self.last)

    def check(self) -> None:
        for losses in torch.stack(self.unchecked).tolist() if self.unchecked else []:
            self.step += 1
            for row, value in enumerate(losses):
                if row not in self.diverged and not math.isfinite(value):
                    self.diverged[row] = DivergedError(value, self.step, self.last[row])
                self.last[row] = value
        self.unchecked.clear()
