"""What can be watched while a sweep runs: live samples of each entry, and the curves in TensorBoard."""

import io

import numpy as np
import pytest
from conftest import CLASSES
from PIL import Image
from tensorboardX.proto.event_pb2 import Event

from latentmill.cluster.rounds import optuna_rounds
from latentmill.config import Params
from latentmill.data.batches import Batches
from latentmill.tracking.live import CAPTION, COLUMNS, LiveSamples, sheet
from latentmill.tracking.observers import Observer, Observers
from latentmill.tracking.project_run import verdicts
from latentmill.tracking.tensorboard import TensorBoard
from latentmill.trials.plan import Plan
from latentmill.trials.running import Context, Watch, run
from latentmill.trials.store import TrialStore

DIGEST = "a" * 64
LADDER = {
    "naive_bayes": {},
    "vae": {"latent": [2, 3], "epochs": 2, "priors": ["normal", "mixture"]},
    "labelled": {"model": "conditional_vae", "latent": 2, "epochs": 2},
    "vq": {"entries": 8, "latent": 2, "channels": 4, "epochs": 2, "priors": ["autoregressive"]},
}
ROW = CAPTION + 58  # pixels: 8x8 digits are enlarged to 56, with a gap on either side


class Shown(list):
    """The pictures, and the captions of their rows."""

    def __init__(self, live):
        self.live = live

    def __call__(self, picture):
        self.append((picture, list(self.live.rows)))


@pytest.fixture
def sweep(digits, labels, tmp_path):
    """A plan, its context, and the live samples, whose pictures are kept."""
    content = {"data": {"source": "digits"}, "trial": {}, "evaluation": {}, "export": {}, "train": {}}
    priors = {"normal": {}, "mixture": {"components": 2}, "autoregressive": {"epochs": 1, "hidden": 8}}
    plan = Plan(
        Params.model_validate(content | {"ladder": LADDER, "priors": priors}),
        DIGEST,
        TrialStore(tmp_path),
        optuna_rounds,
    )
    halves = [Batches(digits[rows], "cpu", labels[rows]) for rows in (slice(500), slice(500, None))]
    notes = []
    path = tmp_path / "live.png"
    live = LiveSamples(plan, digits, labels, CLASSES, lambda picture: shown(picture), notes.append, path)
    live.notes = notes
    shown = Shown(live)
    return plan, Context(*halves, DIGEST, plan.store, CLASSES), live, shown


def train(plan, context, observer, stop=None):
    """Train all trials, of which `observer` hears; `stop` is called after each epoch."""
    while plan.waiting:
        (planned,) = plan.pop_pack()
        observer.started(planned)

        def after_epoch(state, planned=planned):
            observer.progressed(planned, {"epoch": state.epoch, "epochs": planned.epochs} | state.history[-1])
            if stop:
                stop(planned, state.epoch)

        run(planned.trial, context, Watch(after_epoch))
        observer.ended(planned, plan.ended(planned.fingerprint))


def test_every_entry_has_a_row_and_nothing_is_drawn_twice(sweep):
    plan, context, live, shown = sweep
    live.draw()
    assert shown == [], "there is nothing to show yet"
    train(plan, context, live)
    live.draw()
    ((picture, captions),) = shown
    best = min(
        (plan.records[each.fingerprint]["criterion"], each.label) for each in plan.planned if each.study == "vae"
    )
    assert captions == ["naive_bayes", f"{best[1]}, vae/mixture", "labelled", "vq, vq/autoregressive"]
    assert picture.shape == ((1 + len(captions)) * (ROW + 2), 2 + COLUMNS * 58, 3)
    assert np.array_equal(np.asarray(Image.open(live.path)), picture)
    live.draw()
    assert len(shown) == 1, "nothing is new"


def test_a_running_trial_is_shown_from_its_last_epoch(sweep):
    plan, context, live, shown = sweep
    train(plan, context, live, lambda planned, epoch: live.draw())
    captions = [each for _, rows in shown for each in rows]
    assert "vae latent=3 after epoch 1 of 2" in captions
    assert "labelled after epoch 2 of 2" in captions
    assert any(each.startswith("vq, vq/autoregressive after epoch 1 of ") for each in captions)
    assert not any(each.startswith("vq after") for each in captions), "nothing draws its codes yet"
    before = {caption: picture for picture, rows in shown for caption in rows}
    assert not np.array_equal(before["labelled after epoch 1 of 2"], before["labelled after epoch 2 of 2"])


def test_what_can_not_be_read_has_no_row(sweep, tmp_path):
    plan, context, live, shown = sweep
    train(plan, context, live)
    damaged = next(each for each in plan.planned if each.study == "naive_bayes")
    (tmp_path / damaged.fingerprint / "model.safetensors").write_bytes(b"damaged")
    live.draw()
    assert "naive_bayes" not in shown[-1][1]
    assert "labelled" in shown[-1][1]


def test_what_can_not_be_drawn_is_noted_once_and_spoils_no_other_row(sweep, monkeypatch):
    plan, context, live, shown = sweep
    train(plan, context, live)
    real = live._samples

    def samples(chosen, prior):
        if chosen.entry == "vae":
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
        return real(chosen, prior)

    monkeypatch.setattr(live, "_samples", samples)
    live.path.mkdir()  # so that nothing can be written there
    for _ in range(2):
        live.rows = {}
        live.draw()
    *failed, unwritten = live.notes
    assert len(failed) == 2, "of the model under its prior, and under N(0, I)"
    assert all(note.startswith("no picture of vae") and "mat1 and mat2 shapes" in note for note in failed)
    assert unwritten.startswith(f"{live.path} can't be written: ")
    assert [captions[0].partition(" ")[0] for _, captions in shown] == ["naive_bayes"] * 2


def test_pictures_of_any_channels_are_in_colour():
    rng = np.random.default_rng(0)
    for channels in (1, 2, 3, 4):
        images = rng.random((3, channels, 9, 9), np.float32)
        assert sheet({"some": images, "more": images}).shape[2] == 3


def events(path):
    """Those in a file of TensorBoard: records of a length, its sum, the bytes, their sum."""
    stream = io.BytesIO(path.read_bytes())
    while header := stream.read(12):
        content = stream.read(int.from_bytes(header[:8], "little"))
        stream.read(4)
        yield Event.FromString(content)


def test_tensorboard_has_a_curve_for_each_trial_and_the_pictures(sweep, tmp_path):
    plan, context, live, _ = sweep
    with TensorBoard(tmp_path / "board") as board:
        train(plan, context, Observers([live, board]))
        live.show = board.pictured
        live.draw()
    vae = next(each for each in plan.planned if each.label == "vae latent=2")
    (curve,) = (tmp_path / "board/vae" / vae.fingerprint).iterdir()
    values = [(each.step, item.tag, item.simple_value) for each in events(curve) for item in each.summary.value]
    history = plan.records[vae.fingerprint]["history"]
    assert [(step, pytest.approx(value)) for step, tag, value in values if tag == "val_loss"] == [
        (epoch, row["val_loss"]) for epoch, row in enumerate(history, start=1)
    ]
    (pictures,) = (tmp_path / "board/samples").iterdir()
    (image,) = (item.image for each in events(pictures) for item in each.summary.value)
    assert Image.open(io.BytesIO(image.encoded_image_string)).width == 2 + COLUMNS * 58


def test_observers_hear_all_in_turn_and_are_closed_in_reverse():
    heard = []

    class Listener(Observer):
        def __init__(self, name):
            self.name = name

        def __exit__(self, *error):
            heard.append(f"{self.name} closed")

        def noted(self, sentence):
            heard.append(f"{self.name}: {sentence}")

    with Observers([Listener("a"), Listener("b")]) as both:
        both.noted("gone")
    assert heard == ["a: gone", "b: gone", "b closed", "a closed"]


def test_entries_that_failed_have_no_verdicts():
    judged = {f"rule_{rule}": {"status": "pass"} for rule in (1, 2)}
    metrics = {"gan": {"failed": "its samples must be finite"}, "vae": {"samples": {"normal": judged}}}
    assert verdicts(metrics, []) == {"vae.normal.rule_1": "pass", "vae.normal.rule_2": "pass"}
