"""Why a trial ends early: it is pruned, out of time, or its loss is no longer finite."""

import math
from typing import Any

import torch
from torch import Tensor

from latentmill.training.state import Row
from latentmill.training.trainer import Trainer

STEPS_BETWEEN_CHECKS = 50  # of the loss on a GPU, where reading it waits for the device; on a CPU every step


class EndedError(Exception):
    """A trial ends early; the other members of its pack go on. `record` says how: `status` and its details."""

    def __init__(self, message: str, record: dict[str, Any]) -> None:
        super().__init__(message)
        self.record = record


class PrunedError(EndedError):
    """ASHA prunes a trial after an epoch that is a rung."""

    def __init__(self, history: list[Row], asha: dict[str, int]) -> None:
        """`history` has a row for each epoch so far; `asha` has the settings by which it is pruned."""
        epoch, criterion = len(history), history[-1]["val_loss"]
        record = {"status": "pruned", "epoch": epoch, "criterion": criterion, "history": history, "asha": asha}
        super().__init__(f"pruned after epoch {epoch}", record)


class OutOfTimeError(EndedError):
    """The time for models is over, the rest is reserved for priors; a later sweep resumes after the last epoch."""

    def __init__(self, epoch: int) -> None:
        message = f"out of time after epoch {epoch}"
        super().__init__(message, {"status": "unfinished", "error": message})


class DivergedError(EndedError):
    """A loss became NaN or infinite."""

    def __init__(self, value: float, step: int, last_finite_loss: float | None) -> None:
        """`step` counts batches from 1, over all epochs."""
        message = f"the loss must be finite, but got {value} at step {step} after {last_finite_loss}"
        record = {"status": "diverged", "error": message, "step": step, "last_finite_loss": last_finite_loss}
        super().__init__(message, record)


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
