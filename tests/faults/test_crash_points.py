"""A trial that is cut off at each of its file operations in turn, and one whose disk fails at each of them."""

import errno
from collections.abc import Callable
from itertools import count

import pytest

from latentmill import registry
from latentmill.config import TrainingConfig
from latentmill.data.batches import Batches
from latentmill.storage import Storage
from latentmill.trials import running
from latentmill.trials.running import Context, Watch
from latentmill.trials.store import TrialStore
from latentmill.trials.trial import Trial

DIGEST = "a" * 64
EPOCHS = 3
CASES = [("naive_bayes", {}), ("autoencoder", {"latent": 3}), ("vae", {"latent": 3})]
each_case = pytest.mark.parametrize(("name", "model"), CASES, ids=str)


class PowerCut(BaseException):
    """What the process would not see."""


@pytest.fixture
def run(digits, tmp_path):
    """Runs a trial into a store of that name: (its files, the epochs that it trained, what was noted)."""

    def run(store: str, name: str, model: dict[str, object]):
        training = None if name == "naive_bayes" else TrainingConfig(epochs=EPOCHS, batch_size=100).model_dump()
        trial = Trial(name, registry.find("models", name).Config(**model).model_dump(), training, 0)
        seen, notes = [], []
        images, val = Batches(digits[:500]), Batches(digits[500:])
        kept = TrialStore(tmp_path / store, notes.append)
        try:
            watch = Watch(lambda state: seen.append(state.epoch))
            running.run(trial, Context(images, val, DIGEST, kept), watch)
        except PowerCut:
            notes.append("cut off")
        folder = tmp_path / store / trial.fingerprint(DIGEST)
        return {path.name: path.read_bytes() for path in sorted(folder.glob("*"))}, seen, notes

    return run


@pytest.fixture
def fail_at(monkeypatch):
    """Makes the store's operation of that number fail: `fail(do)` is called in its place."""

    def fail_at(moment: int, fail: Callable[[Callable[[], None]], None]) -> None:
        monkeypatch.undo()
        numbers = count()
        for name in ("write", "delete"):
            whole = getattr(Storage, name)

            def counted(self, *given, whole=whole):
                def do():
                    whole(self, *given)

                return fail(do) if next(numbers) == moment else do()

            monkeypatch.setattr(Storage, name, counted)

    return fail_at


def before(do):
    raise PowerCut


def after(do):
    do()
    raise PowerCut


@each_case
@pytest.mark.parametrize("cut", [before, after])
def test_cut_off_at_any_file_operation_it_goes_on_and_loses_at_most_an_epoch(run, fail_at, name, model, cut):
    undisturbed, _, _ = run("undisturbed", name, model)
    for moment in count():
        fail_at(moment, cut)
        files, seen, notes = run(f"cut-{moment}", name, model)
        if not notes:
            break
        fail_at(-1, cut)
        if "trial.json" not in files:  # else the plan would not run it again
            files, again, notes = run(f"cut-{moment}", name, model)
            assert files.keys() == {"model.safetensors", "trial.json"}
            assert notes == []
            assert not again or again[0] - len(seen) in (1, 2), "an epoch was trained twice, or left out"
        assert files["model.safetensors"] == undisturbed["model.safetensors"]
    assert moment >= (2 if name == "naive_bayes" else 2 * EPOCHS + 2)


def no_room(do):
    raise OSError(errno.ENOSPC, "No space left on device")


@each_case
def test_where_any_file_operation_fails_the_trial_ends_the_same_now_or_in_the_next_run(run, fail_at, name, model):
    undisturbed, _, _ = run("undisturbed", name, model)
    for moment in count():
        fail_at(moment, no_room)
        files, _, notes = run(f"full-{moment}", name, model)
        if not notes:
            break
        assert len(notes) == 1
        assert "No space left on device" in notes[0]
        if "trial.json" not in files:
            fail_at(-1, no_room)
            files, _, _ = run(f"full-{moment}", name, model)
            assert files.keys() == {"model.safetensors", "trial.json"}
        assert files["model.safetensors"] == undisturbed["model.safetensors"]
    assert moment >= 2
