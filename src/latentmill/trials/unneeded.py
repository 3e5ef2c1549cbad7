"""What of the trial store a plan does not need.

Trials of other params, images or code, or of a search that chose others; and the data sets of other images, which were
sent to a cluster with its trials.
"""

import re
from dataclasses import dataclass

from latentmill.data.dataset import STORED, stored_as
from latentmill.errors import InputError
from latentmill.runtime.text import plural
from latentmill.trials.plan import Plan
from latentmill.trials.store import TrialStore

FINGERPRINT = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Unneeded:
    """What a store holds beside what is needed."""

    trials: dict[str, int]  # bytes of each trial that is not needed
    kept: int  # trials that are
    data_sets: dict[str, int]  # bytes of each data set of other images

    @property
    def names(self) -> list[str]:
        """Of the folders that are not needed."""
        return [*self.trials, *self.data_sets]

    @property
    def summary(self) -> str:
        """`12 of 34 trials are not needed: 1.2 MB; 1 data set of other images: 12,000.0 MB`."""
        total = len(self.trials) + self.kept
        trials = f"{plural(total, 'trial')} {'is' if total == 1 else 'are'}"
        parts = [f"{len(self.trials):,} of {trials} not needed: {_megabytes(self.trials)}"]
        if self.data_sets:
            parts.append(f"{plural(len(self.data_sets), 'data set')} of other images: {_megabytes(self.data_sets)}")
        return "; ".join(parts)


def _megabytes(sizes: dict[str, int]) -> str:
    return f"{sum(sizes.values()) / 1e6:,.1f} MB"


def unneeded(plan: Plan) -> Unneeded:
    """What the store of a plan holds that the plan, of the present params, images and code, has not.

    Raises:
        InputError: the store can't be read.
    """
    storage, needed = plan.store.storage, {each.fingerprint for each in plan.planned}
    stored = {name for name in plan.store.fingerprints() if FINGERPRINT.fullmatch(name)}
    try:
        others = set(storage.names(prefix=STORED)) - {stored_as(plan.data_digest)}
        trials, data_sets = ({name: storage.size(name) for name in sorted(each)} for each in (stored - needed, others))
    except OSError as error:
        raise InputError(f"train.storage must be readable, but {storage}: {error.strerror or error}") from None
    return Unneeded(trials, len(stored & needed), data_sets)


def free(store: TrialStore, found: Unneeded) -> None:
    """Delete them; no sweep may be using the store.

    Raises:
        InputError: one can't be deleted.
    """
    for name in found.names:
        try:
            store.storage.delete(name)
        except OSError as error:
            rule = "what is not needed must be deletable"
            raise InputError(f"{rule}, but {name} in {store.storage}: {error.strerror or error}") from None
