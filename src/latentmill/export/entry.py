"""Exports one entry of the ladder, or refuses to."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentmill.config import ExportConfig
from latentmill.errors import InputError, error_line
from latentmill.export.permission import evaluated, require_rule_2
from latentmill.export.refusal import Refused
from latentmill.export.writer import TrainedPair, TrainingData, summary, write_export
from latentmill.files import replacing_folder
from latentmill.memory import is_out_of_memory
from latentmill.trials.trained_model import load, load_priors

TRY_AGAIN = "to try again, run `dvc repro -f export`"

Json = dict[str, Any]


@dataclass(frozen=True)
class Exporter:
    """Writes the exports of a ladder, one entry at a time."""

    models: Path  # the folder of the entries' trained models
    metrics: Json  # results of the evaluation, by entry
    data: TrainingData
    config: ExportConfig
    tell: Callable[[str], None]  # called with each step before it starts, because some take long, and with a summary

    def write(self, entry: str, folder: Path, inputs: str) -> None:
        """Replace `folder` by the entry's graphs and card, or by a refusal.

        What a model or a library raises is recorded as a failure of the entry, and its traceback is printed.
        `inputs` is the digest by which the folder will be up to date. On an error the folder stays as it was.

        Raises:
            InputError: the trained model is missing or damaged, or was not evaluated.
            OSError: the disk is full or can't be read.
        """
        try:
            self._export(entry, folder, inputs)
        except Refused as refused:
            self._refuse(entry, folder, refused, inputs)
        except (InputError, OSError):
            raise
        except Exception as error:  # noqa: BLE001  # those of onnx and onnxruntime have no other class in common
            traceback.print_exception(error)
            self._refuse(entry, folder, _failure(error), inputs="")  # never up to date: it may succeed another time

    def _export(self, entry: str, folder: Path, inputs: str) -> None:
        found = evaluated(entry, self.metrics, self.models)
        require_rule_2(entry, found, self.config.allow_failing)
        trained, steps = self._trained(entry, found), lambda step: self.tell(f"{folder}: {step}")
        with replacing_folder(folder) as partial:
            try:
                card = write_export(trained, entry, found, self.data, partial, self.config.formats, inputs, steps)
            except Refused:
                raise
            except InputError as error:  # of a graph that was written, and not of what the stage reads
                raise Refused(str(error), status="failed") from None
        for line in summary(card):
            self.tell(f"{folder}: {line}")

    def _trained(self, entry: str, metrics: Json) -> TrainedPair:
        priors = load_priors(self.models / entry)
        return TrainedPair(load(self.models / entry), priors.get(metrics["exported_prior"]))

    def _refuse(self, entry: str, folder: Path, refused: Refused, inputs: str) -> None:
        with replacing_folder(folder) as partial:
            refused.write(partial, entry, self.metrics.get(entry), inputs)
        self.tell(f"{folder}: {refused.status}: {refused}")


def _failure(error: Exception) -> Refused:
    rule = "its export must fit into memory" if is_out_of_memory(error) else "its export must end without an error"
    return Refused(rule, error_line(error)[:200], TRY_AGAIN, status="failed")
