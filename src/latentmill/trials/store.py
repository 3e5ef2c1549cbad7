"""The trial store: what became of each trial, and how far unfinished ones have come.

One folder a trial, named by its fingerprint. `trial.json` says how the trial ended and is written last; for a
finished one `model.safetensors` stands beside it. `checkpoint-<epoch>-<digest>` is a trial under way. Every file is
checked by a digest when it is read, and a damaged one counts as none: its trial, or its last epoch, is redone.
"""

import re
from collections.abc import Callable
from pathlib import Path

from latentmill.errors import InputError
from latentmill.files import write_bytes
from latentmill.storage import Storage
from latentmill.training import state as checkpoint
from latentmill.training.state import TrainingState
from latentmill.trials.trained_model import (
    RECORD,
    WEIGHTS,
    Record,
    TrainedModel,
    digest,
    parse_record,
    rebuilt,
    record_bytes,
    require_digest,
)

SETTLED = ("finished", "diverged")  # to run such a trial again would only give the same
CHECKPOINT = re.compile(r"checkpoint-(\d+)-([0-9a-f]{16})\.safetensors")


class TrialStore:
    """Trials by fingerprint, below a folder or URL. `note` is told, in a sentence, what was found damaged."""

    def __init__(self, url: str | Path, note: Callable[[str], None] = lambda sentence: None) -> None:
        self.storage, self.note = Storage(url), note
        self._unkept: set[str] = set()  # trials whose last epoch could not be written

    def fingerprints(self) -> set[str]:
        """The trials that anything is kept of."""
        return set(self.storage.names())

    def find(self, fingerprint: str) -> Record | None:
        """How a trial ended; None where it did not, or where what is kept of it is damaged.

        The weights of a finished one are checked only on a local disk; elsewhere that is left to `fetch`.
        """
        try:
            record = self._record(fingerprint)
            if self.storage.is_local and "weights_sha256" in record:
                self._weights(fingerprint, record)
        except FileNotFoundError:
            return None
        except InputError as error:
            self.note(f"{error}: the trial is redone")
            return None
        return record

    def fetch(self, fingerprint: str, folder: Path) -> None:
        """Copy a finished trial's two files into `folder`, which must exist.

        Raises:
            InputError: it is damaged; the next sweep redoes it.
        """
        record = self._record(fingerprint)
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
        record = self._record(fingerprint)
        return rebuilt(record, self._weights(fingerprint, record), fingerprint)

    def end(self, fingerprint: str, record: Record, weights: bytes | None = None) -> None:
        """Keep how a trial ended, and its weights if it finished; one that did not may go on from its checkpoint later.

        Where the disk is full, the checkpoint makes room for the weights.
        """
        self.storage.delete_leftovers(fingerprint)
        try:
            self._write_end(fingerprint, record, weights)
        except OSError as error:
            if weights is None:
                raise
            self.note(f"{fingerprint}: {error}; its checkpoint is given up to keep the result")
            self.forget_checkpoints(fingerprint)
            self._write_end(fingerprint, record, weights)
        if record["status"] in SETTLED:
            self.forget_checkpoints(fingerprint)

    def forget_end(self, fingerprint: str) -> None:
        """The trial will be run again, from its checkpoint if one was kept."""
        self.storage.delete(f"{fingerprint}/{RECORD}")

    def save_checkpoint(self, fingerprint: str, state: TrainingState) -> None:
        """Keep the state after an epoch in place of the one before. A trial goes on where this can't be written."""
        content = checkpoint.to_bytes(state)
        name = f"checkpoint-{state.epoch:06d}-{digest(content)[:16]}.safetensors"
        try:
            self.storage.write(f"{fingerprint}/{name}", content)
            self.forget_checkpoints(fingerprint, but=name)
            self._unkept.discard(fingerprint)
        except OSError as error:
            if fingerprint not in self._unkept:  # told once, not at every epoch
                self.note(f"{fingerprint}: from epoch {state.epoch} on, an interruption loses epochs: {error}")
            self._unkept.add(fingerprint)

    def load_checkpoint(self, fingerprint: str, state: TrainingState) -> None:
        """Bring a fresh `state` to the last epoch kept intact; leaves it as it is where there is none."""
        for name in reversed(self._checkpoint_names(fingerprint)):
            try:
                content = self.storage.read(f"{fingerprint}/{name}")
                if not name.endswith(f"-{digest(content)[:16]}.safetensors"):
                    raise InputError("it must have the digest that its name says, but it has another")
                checkpoint.from_bytes(content, state)
            except (OSError, InputError) as error:
                self.note(f"{fingerprint}/{name} is damaged, so its epochs are redone: {error}")
                continue
            return

    def forget_checkpoints(self, fingerprint: str, but: str | None = None) -> None:
        for name in self._checkpoint_names(fingerprint):
            if name != but:
                self.storage.delete(f"{fingerprint}/{name}")

    def _checkpoint_names(self, fingerprint: str) -> list[str]:
        return [name for name in self.storage.names(fingerprint) if CHECKPOINT.fullmatch(name)]

    def _record(self, fingerprint: str) -> Record:
        """Raises: InputError: it is damaged, or of another trial."""
        where = f"{fingerprint}/{RECORD}"
        record = parse_record(self.storage.read(where), where)
        if record.get("fingerprint") != fingerprint:
            raise InputError(f"{where} must be the record of that trial, but is that of {record.get('fingerprint')}")
        return record

    def _weights(self, fingerprint: str, record: Record) -> bytes:
        where = f"{fingerprint}/{WEIGHTS}"
        try:
            weights = self.storage.read(where)
        except FileNotFoundError:
            raise InputError(f"{where} must stand beside {RECORD}, but is missing") from None
        require_digest(weights, record, where)
        return weights

    def _write_end(self, fingerprint: str, record: Record, weights: bytes | None) -> None:
        if weights is not None:
            self.storage.write(f"{fingerprint}/{WEIGHTS}", weights)
            record = record | {"weights_sha256": digest(weights)}
        self.storage.write(f"{fingerprint}/{RECORD}", record_bytes(record))
