"""The trial store: the result of each trial, and checkpoints of unfinished ones.

It has a folder for each trial, named by its fingerprint. `trial.json` records how the trial ended and is written last,
after the `model.safetensors` of a finished one. `checkpoint-<epoch>-<digest>` belongs to an unfinished trial. Every
file is checked by a digest when it is read; a damaged one is ignored, and its trial or last epoch is redone. Beside the
trials are the prepared data sets that a cluster was sent.
"""

import errno
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from latentmill.errors import InputError
from latentmill.files import write_bytes
from latentmill.storage import Storage
from latentmill.training import state as checkpoint
from latentmill.training.state import TrainingState
from latentmill.trials.record import (
    RECORD,
    Record,
    digest,
    parse_trial_record,
    record_bytes,
    require_digest,
    weights_described,
)
from latentmill.trials.trained_model import WEIGHTS, TrainedModel, rebuilt

SETTLED = ("finished", "diverged")  # to train such a trial again would give the same result
MOST = 2**28  # bytes of a record: the rows of a million epochs
PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)  # seconds before a store on another machine is asked again
T = TypeVar("T")
CHECKPOINT = re.compile(r"checkpoint-(\d+)-([0-9a-f]{16})\.safetensors")


class UnreachableError(InputError):
    """A store on another machine does not answer; what it holds is not damaged."""


class TrialStore:
    """Trials by fingerprint, below a folder or URL. `note` is called with a sentence about each damaged file."""

    def __init__(self, url: str | Path, note: Callable[[str], None] = lambda sentence: None) -> None:
        self.storage, self.note = Storage(url), note
        self._unsaved: set[str] = set()  # trials whose last checkpoint could not be written

    def fingerprints(self) -> set[str]:
        """The trials of which anything is stored.

        Raises:
            InputError: the store can't be read.
        """
        try:
            return set(self._patiently(self.storage.names))
        except OSError as error:
            raise InputError(f"train.storage must be readable, but {self.storage}: {_reason(error)}") from None

    def find(self, fingerprint: str) -> Record | None:
        """The record of a trial that has ended; None where there is none or its files are damaged.

        The weights of a finished trial are checked only on a local disk; elsewhere `fetch` checks them.

        Raises:
            UnreachableError: the store, on another machine, does not answer.
        """
        try:
            record = self._record(fingerprint)
            if self.storage.is_local and record["status"] == "finished":
                self._weights(fingerprint, record)
            return record
        except FileNotFoundError:
            return None
        except UnreachableError:
            raise
        except InputError as error:
            self.note(f"{error}: the trial is redone")
            return None

    def fetch(self, record: Record, folder: Path) -> None:
        """Copy the two files of the finished trial that has this record into `folder`, which must exist.

        Raises:
            InputError: they are damaged, and the next sweep redoes it; or another sweep has replaced them.
        """
        fingerprint = record["fingerprint"]
        if self._stored_record(fingerprint) != record:
            raise InputError(f"{fingerprint}/{RECORD} must stay as it was ranked, but has changed: run again")
        try:
            weights = self._weights(fingerprint, record)
        except InputError as error:
            self.storage.delete(f"{fingerprint}/{RECORD}")
            raise InputError(f"{error}; run again to redo the trial") from None
        write_bytes(folder / WEIGHTS, weights)
        write_bytes(folder / RECORD, record_bytes(record))

    def load(self, fingerprint: str) -> TrainedModel:
        """A finished trial's model.

        Raises:
            InputError: it is damaged; the next sweep redoes it.
        """
        record = self._stored_record(fingerprint)
        return rebuilt(record, self._weights(fingerprint, record), fingerprint)

    def save_result(self, fingerprint: str, record: Record, weights: bytes | None = None) -> None:
        """Store how a trial ended, and its weights if it finished; if not, its checkpoint stays.

        Where the disk is full, the checkpoint makes room for the weights.
        """
        self.storage.delete_leftovers(fingerprint)
        try:
            self._write_result(fingerprint, record, weights)
        except OSError as error:
            if weights is None:
                raise
            self.note(f"{fingerprint}: {error}; its checkpoint is given up to keep the result")
            self.delete_checkpoints(fingerprint)
            self._write_result(fingerprint, record, weights)
        if record["status"] in SETTLED:
            self.delete_checkpoints(fingerprint)

    def delete_result(self, fingerprint: str) -> None:
        """The trial is to be trained again, from its checkpoint if there is one."""
        self.storage.delete(f"{fingerprint}/{RECORD}")

    def save_checkpoint(self, fingerprint: str, state: TrainingState, owner: str) -> None:
        """Replace the checkpoint by the present state. A trial goes on where it can't be written.

        `owner` names the trial and what it learns from; the checkpoint is of use to no other.
        """
        content = checkpoint.to_bytes(state, owner)
        name = f"checkpoint-{state.epoch:06d}-{digest(content)[:16]}.safetensors"
        try:
            self.storage.write(f"{fingerprint}/{name}", content)
            self.delete_checkpoints(fingerprint, excluding=name)
            self._unsaved.discard(fingerprint)
        except OSError as error:
            if fingerprint not in self._unsaved:  # once, not at every epoch
                self.note(f"{fingerprint}: from epoch {state.epoch} on, an interruption loses epochs: {error}")
            self._unsaved.add(fingerprint)

    def load_checkpoint(self, fingerprint: str, state: TrainingState, owner: str) -> None:
        """Restore the owner's last intact checkpoint into a fresh `state`, if there is one.

        Raises:
            InputError: the trial's folder can't be read.
            UnreachableError: the store, on another machine, does not answer.
        """
        for name in reversed(self._answer(fingerprint, lambda: self.checkpoint_names(fingerprint))):
            try:
                content = self._read(f"{fingerprint}/{name}", checkpoint.most_bytes(state.model))
                if not name.endswith(f"-{digest(content)[:16]}.safetensors"):
                    raise InputError("it must have the digest that its name says, but it has another")
                checkpoint.from_bytes(content, state, owner)
            except UnreachableError:  # what it holds may be intact
                raise
            except (FileNotFoundError, InputError) as error:
                self.note(f"{fingerprint}/{name} is damaged, so its epochs are redone: {error}")
                continue
            return

    def delete_checkpoints(self, fingerprint: str, excluding: str | None = None) -> None:
        for name in self.checkpoint_names(fingerprint):
            if name != excluding:
                self.storage.delete(f"{fingerprint}/{name}")

    def checkpoint_names(self, fingerprint: str) -> list[str]:
        """The checkpoints of an unfinished trial, the last one last."""
        return [name for name in self.storage.names(fingerprint) if CHECKPOINT.fullmatch(name)]

    def _stored_record(self, fingerprint: str) -> Record:
        """Raises InputError where there is none, or it is damaged or of another trial."""
        try:
            return self._record(fingerprint)
        except FileNotFoundError:
            raise InputError(f"{fingerprint}/{RECORD} must be in the trial store, but is not: run again") from None

    def _record(self, fingerprint: str) -> Record:
        """Raises InputError where it is damaged, or of another trial."""
        where = f"{fingerprint}/{RECORD}"
        return parse_trial_record(self._read(where, MOST), fingerprint, where)

    def _weights(self, fingerprint: str, record: Record) -> bytes:
        where = f"{fingerprint}/{WEIGHTS}"
        try:
            weights = self._read(where, record["weights_bytes"])
        except FileNotFoundError:
            raise InputError(f"{where} must lie beside {RECORD}, but is missing") from None
        require_digest(weights, record, where)
        return weights

    def _read(self, name: str, most: int) -> bytes:
        """Raises as `_answer`."""
        return self._answer(name, lambda: self.storage.read(name, most))

    def _answer(self, name: str, ask: Callable[[], T]) -> T:
        """What is asked of the file or folder `name`.

        Raises:
            FileNotFoundError: there is none.
            InputError: there is something else, or a file that is too large.
            UnreachableError: the store, on another machine, does not answer.
        """
        try:
            return self._patiently(ask)
        except FileNotFoundError:
            raise
        except OSError as error:
            if self.storage.is_local or error.errno == errno.EFBIG:
                raise InputError(f"{name} must be readable, but {_reason(error)}") from None
            raise UnreachableError(f"train.storage must answer, but {self.storage}: {_reason(error)}") from None

    def _write_result(self, fingerprint: str, record: Record, weights: bytes | None) -> None:
        if weights is not None:
            self._patiently(lambda: self.storage.write(f"{fingerprint}/{WEIGHTS}", weights))
            record = record | weights_described(weights)
        self._patiently(lambda: self.storage.write(f"{fingerprint}/{RECORD}", record_bytes(record)))

    def _patiently(self, ask: Callable[[], T]) -> T:
        """Reads, and results to write, are worth waiting for, where the store is on another machine."""
        for pause in () if self.storage.is_local else PAUSES:
            try:
                return ask()
            except FileNotFoundError:
                raise
            except OSError:
                time.sleep(pause)
        return ask()


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
