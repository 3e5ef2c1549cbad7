"""Results of trials that were not trained, as their workers would store them."""

from typing import Any

from latentmill.trials.store import TrialStore

TRIAL = {"model": "vae", "config": {}, "training": None, "seed": 0, "features": None, "parent": None}
HISTORY = [{"train_loss": 2.0, "val_loss": 3.0}, {"train_loss": 1.0, "val_loss": 2.5}]
FINISHED = {"criterion": 1.0, "history": HISTORY, "best_epoch": 2, "seconds": 2.0, "shape": [1, 8, 8], "classes": 0}
DETAILS = {
    "finished": FINISHED,
    "pruned": {"epoch": 2, "criterion": 1.0, "history": HISTORY, "asha": {"grace": 10, "reduction": 3}},
}


def record(fingerprint: str, status: str = "finished", **details: Any) -> dict[str, Any]:
    """Without what the store adds of the weights."""
    identity = {"fingerprint": fingerprint, "data_digest": "a" * 64, "trial": TRIAL}
    return identity | {"status": status} | DETAILS.get(status, {"error": "an error"}) | details


def keep(store: TrialStore, fingerprint: str, status: str = "finished", weights: bytes = b"w", **details: Any) -> None:
    """Store it."""
    store.save_result(fingerprint, record(fingerprint, status, **details), weights if status == "finished" else None)
