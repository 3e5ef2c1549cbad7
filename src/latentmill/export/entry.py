"""One entry of the ladder, exported or refused."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentmill.config import ExportConfig
from latentmill.export.bundle import Given, told, write_bundle
from latentmill.export.permission import evaluated, require_kept
from latentmill.export.refusal import Refused
from latentmill.files import replacing_folder
from latentmill.memory import is_out_of_memory
from latentmill.training.checkpoint import load

TRY_AGAIN = "to try again, run `dvc repro -f export`"

Json = dict[str, Any]


@dataclass(frozen=True)
class Exporter:
    """Writes the exports of a ladder, one entry at a time."""

    models: Path  # the folder of the entries' trained models
    metrics: Json  # what the evaluation found, by entry
    given: Given  # what the models were trained on
    config: ExportConfig
    tell: Callable[[str], None]  # is called with each step before it, for some take long, and with what was written

    def write(self, entry: str, folder: Path, inputs: str) -> None:
        """Put the entry's graphs and card, or why there are none, in the place of `folder`.

        `inputs` is the digest that it will be found up to date by. Where an error is raised, it keeps what it held.

        Raises:
            InputError: the trained model is missing or damaged, or was not evaluated.
        """
        try:
            self._export(entry, folder, inputs)
        except Refused as refused:
            self._refuse(entry, folder, refused, inputs)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            said = " ".join(str(error).split())[:200]
            failed = Refused("its export must fit into memory", said, TRY_AGAIN, status="failed")
            self._refuse(entry, folder, failed, inputs="")  # never up to date, for another time it may fit

    def _export(self, entry: str, folder: Path, inputs: str) -> None:
        found = evaluated(entry, self.metrics, self.models)
        require_kept(entry, found, self.config.allow_broken)
        trained, steps = load(self.models / entry), lambda step: self.tell(f"{folder}/{step}")
        with replacing_folder(folder) as partial:
            card = write_bundle(trained, entry, found, self.given, partial, self.config.forms, inputs, steps)
        for line in told(card):
            self.tell(f"{folder}/{line}")

    def _refuse(self, entry: str, folder: Path, refused: Refused, inputs: str) -> None:
        with replacing_folder(folder) as partial:
            refused.write(partial, entry, self.metrics.get(entry), inputs)
        self.tell(f"{folder}: {refused.status}: {refused}")
