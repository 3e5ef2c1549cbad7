"""The curves of each trial, and the live samples, for TensorBoard."""

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from tensorboardX import SummaryWriter

from latentmill.tracking.observers import LOSSES, Observer
from latentmill.trials.record import Record
from latentmill.trials.study import Planned

FOLDER = Path(".latentmill/tensorboard")  # `tensorboard --logdir .latentmill/tensorboard`


class TensorBoard(Observer):
    """A run for each trial, in a folder that is named by its study and fingerprint."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self.folder, self.pictures = folder, 0
        self.writers: dict[str, SummaryWriter] = {}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in self.writers.values():
            each.close()

    def progressed(self, planned: Planned, result: dict[str, Any]) -> None:
        for loss in LOSSES:
            self._writer(planned.study, planned.fingerprint).add_scalar(loss, result[loss], result["epoch"])

    def ended(self, planned: Planned, record: Record) -> None:
        writer = self._writer(planned.study, planned.fingerprint)
        writer.add_text("trial", f"{planned.label}: {record['status']}")
        if record["status"] == "finished":
            writer.add_scalar("criterion", record["criterion"], record["best_epoch"])
        self.writers.pop(str(Path(planned.study) / planned.fingerprint)).close()

    def pictured(self, picture: np.ndarray) -> None:
        self._writer("samples", "").add_image("samples", picture, self.pictures, dataformats="HWC")
        self.pictures += 1

    def _writer(self, *names: str) -> SummaryWriter:
        place = str(Path(*names))
        if place not in self.writers:
            self.writers[place] = SummaryWriter(str(self.folder / place), flush_secs=10)
        return self.writers[place]
