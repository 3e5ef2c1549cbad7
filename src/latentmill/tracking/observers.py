"""Observers of a sweep: the display, the live samples, loggers."""

from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import numpy as np

from latentmill.trials.record import Record
from latentmill.trials.study import Planned

LOSSES = ("train_loss", "val_loss")  # of each epoch


class Observer:
    """Hears of each trial of a sweep; a context that is open while it runs."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def started(self, planned: Planned) -> None:
        """It has a worker; where the former one died, again."""

    def progressed(self, planned: Planned, result: dict[str, Any]) -> None:
        """After an epoch: `result` has `epoch`, from 1, `epochs` and `LOSSES`."""

    def ended(self, planned: Planned, record: Record) -> None: ...

    def noted(self, sentence: str) -> None:
        """Something went wrong."""

    def pictured(self, picture: np.ndarray) -> None:
        """Samples of all entries so far, uint8 (height, width, 3); called from another thread."""


class Observers(Observer):
    """Several at once."""

    def __init__(self, several: Sequence[Observer]) -> None:
        self.several, self._open = several, ExitStack()

    def __enter__(self) -> Self:
        for each in self.several:
            self._open.enter_context(each)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def started(self, planned: Planned) -> None:
        for each in self.several:
            each.started(planned)

    def progressed(self, planned: Planned, result: dict[str, Any]) -> None:
        for each in self.several:
            each.progressed(planned, result)

    def ended(self, planned: Planned, record: Record) -> None:
        for each in self.several:
            each.ended(planned, record)

    def noted(self, sentence: str) -> None:
        for each in self.several:
            each.noted(sentence)

    def pictured(self, picture: np.ndarray) -> None:
        for each in self.several:
            each.pictured(picture)
