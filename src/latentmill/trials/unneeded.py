"""Trials in the store that a plan does not need: of other params, images or code, or of a search that chose others."""

import re
from dataclasses import dataclass

from latentmill.errors import InputError
from latentmill.runtime.text import plural
from latentmill.trials.plan import Plan
from latentmill.trials.store import TrialStore

FINGERPRINT = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Unneeded:
    """What a store holds beside what is needed."""

    sizes: dict[str, int]  # of each trial that is not needed, in bytes
    kept: int  # trials that are

    @property
    def summary(self) -> str:
        """`12 of 34 trials are not needed: 1.2 MB`."""
        number, size = len(self.sizes), sum(self.sizes.values()) / 1e6
        total = number + self.kept
        trials = f"{plural(total, 'trial')} {'is' if total == 1 else 'are'}"
        return f"{number:,} of {trials} not needed: {size:,.1f} MB"


def unneeded(plan: Plan) -> Unneeded:
    """What the store of a plan holds that the plan, of the present params, images and code, has not.

    Raises:
        InputError: the store can't be read.
    """
    store, needed = plan.store, {each.fingerprint for each in plan.planned}
    stored = {name for name in store.fingerprints() if FINGERPRINT.fullmatch(name)}
    try:
        return Unneeded({name: store.storage.size(name) for name in sorted(stored - needed)}, len(stored & needed))
    except OSError as error:
        raise InputError(f"train.storage must be readable, but {store.storage}: {error.strerror or error}") from None


def free(store: TrialStore, found: Unneeded) -> None:
    """Delete them; no sweep may be using the store.

    Raises:
        InputError: one can't be deleted.
    """
    for name in found.sizes:
        try:
            store.storage.delete(name)
        except OSError as error:
            rule = "what is not needed must be deletable"
            raise InputError(f"{rule}, but {name} in {store.storage}: {error.strerror or error}") from None
