"""One sweep at a time on a trial store."""

import pytest
from filelock import FileLock

from latentmill.cluster import lifetime
from latentmill.cluster.lifetime import exclusive
from latentmill.errors import InputError
from latentmill.trials.store import TrialStore


def test_a_second_sweep_on_a_store_is_refused_and_a_later_one_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(lifetime, "SECONDS_TO_WAIT", 0.05)
    store = TrialStore(tmp_path / "trials")
    with exclusive(store):
        pass
    with (
        FileLock(tmp_path / "trials/.lock"),
        pytest.raises(InputError, match=r"^only one sweep may use a trial store at a time, but another holds"),
        exclusive(store),
    ):
        pass
    with exclusive(store):
        pass
