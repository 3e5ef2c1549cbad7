"""Packed trials have the results that each has alone."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import CASES, CLASSES, IMAGE_SHAPE, build, mean_distance
from records import keep
from safetensors.numpy import load_file
from test_sweep import Listener, swept
from torch.utils._python_dispatch import TorchDispatchMode

from latentmill import registry
from latentmill.cluster import worker
from latentmill.cluster.pack_sizes import PackSizes
from latentmill.cluster.rounds import optuna_rounds
from latentmill.cluster.search import PlanSearch
from latentmill.config import Params, Settings, SweepConfig, TrainingConfig, is_searchable
from latentmill.contract import HasCriterion, Model, Phase
from latentmill.data.batches import Batches
from latentmill.draws import Draw, drawn
from latentmill.errors import InputError
from latentmill.training import loop
from latentmill.training.endings import DivergenceCheck, PrunedError
from latentmill.training.loop import trainer
from latentmill.training.noise import NoiseAhead, steps_ahead
from latentmill.training.packed import PackedTrainer
from latentmill.training.ranks import Part, SingleRank
from latentmill.training.state import TrainingState, from_bytes, to_bytes
from latentmill.trials import pack_size, packs, running
from latentmill.trials.pack_size import best_size
from latentmill.trials.packs import CheckpointThrottle
from latentmill.trials.plan import Plan
from latentmill.trials.results import outcomes, ranking
from latentmill.trials.running import Context, Watch
from latentmill.trials.store import TrialStore
from latentmill.trials.trial import Trial

DIGEST = "a" * 64
UNWATCHED = Watch()
TRAINED = [(name, config) for name, config in CASES if not registry.find("models", name).closed_form]
each_trained_model = pytest.mark.parametrize(("name", "config"), TRAINED, ids=str)


class Interruption(Exception):
    """What a kill looks like from within."""


def trial(name="vae", seed=0, config=None, **training) -> Trial:
    kind = registry.find("models", name).Config
    config = kind(**({"latent": 3} if "latent" in kind.model_fields else {}) | (config or {}))
    chosen = TrainingConfig(**{"epochs": 3, "batch_size": 50} | training)
    return Trial(name, config.model_dump(), chosen.model_dump(), seed)


def rates(*values, **training) -> list[Trial]:
    return [trial(learning_rate=value, **training) for value in values]


class MeanDistance:
    """Stands for pinned features."""

    digest = "features"

    def distance(self, images, val):
        return lambda model: mean_distance(model, val)


@pytest.fixture
def context(setup):
    """What the trials of a worker share, with a store."""
    return lambda store, **given: Context(setup.examples, setup.val, DIGEST, store, CLASSES, MeanDistance(), **given)


@pytest.fixture
def together(context, tmp_path):
    """Runs trials as a pack into a store: (the store, its notes)."""

    def together(requested, name="together", watches=None):
        notes = []
        store = TrialStore(tmp_path / name, notes.append)
        packs.run_pack(requested, context(store), watches or [UNWATCHED] * len(requested))
        return store, notes

    return together


@pytest.fixture
def alone(context, tmp_path):
    """Runs trials one by one into a store."""

    def alone(requested):
        store = TrialStore(tmp_path / "alone")
        for each in requested:
            running.run(each, context(store))
        return store

    return alone


def same(each: Trial, *stores: TrialStore) -> None:
    """Both stores have the same result of a trial, except for rounding."""
    fingerprint = each.fingerprint(DIGEST)
    one, other = (store.find(fingerprint) for store in stores)
    for key in ("status", "best_epoch", "error", "step"):
        assert one.get(key) == other.get(key), key
    for mine, theirs in zip(one.get("history", []), other.get("history", []), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-3, abs=1e-6)
    if one["status"] != "finished":
        return
    assert one["criterion"] == pytest.approx(other["criterion"], rel=1e-3)
    weights, others = (load_file(f"{store.storage.url}/{fingerprint}/model.safetensors") for store in stores)
    for name in weights:
        assert weights[name] == pytest.approx(others[name], abs=2e-3), name


# A packed trial and the same alone


def guided_flows(parent: Trial) -> list[Trial]:
    """Trials of a prior of its codes, whose training leaves labels out."""
    config = registry.find("priors", "flow").Config(hidden=16, depth=1, steps=2, labels="guided").model_dump()
    own = {"epochs": 3, "batch_size": 512, "ema": 0.9}
    training = [TrainingConfig(learning_rate=rate, **own).model_dump() for rate in (1e-3, 3e-3)]
    return [Trial("flow", config, each, 0, parent=parent.fingerprint(DIGEST)) for each in training]


def test_a_prior_that_knows_labels_is_the_same_packed_alone_and_resumed(context, tmp_path):
    parent, stores = trial(), {name: TrialStore(tmp_path / name) for name in ("packed", "alone", "resumed")}
    flows = guided_flows(parent)
    for store in stores.values():
        running.run(parent, context(store))
    packs.run_pack(flows, context(stores["packed"]), [UNWATCHED] * 2)
    for each in flows:
        running.run(each, context(stores["alone"]))
        with pytest.raises(Interruption):
            running.run(each, context(stores["resumed"]), Watch(interrupt_after(2)))
        running.run(each, context(stores["resumed"]))
        assert stores["packed"].find(each.fingerprint(DIGEST))["status"] == "finished"
        same(each, stores["packed"], stores["alone"])
        same(each, stores["resumed"], stores["alone"])


def interrupt_after(epoch: int):
    def interrupt(state):
        if state.epoch == epoch:
            raise Interruption

    return interrupt


def random_trials(name, config, count) -> list[Trial]:
    """Whatever may differ within a pack does."""
    random = np.random.default_rng(0)
    kind = registry.find("models", name)
    values = kind.Config(**config).model_dump().items()
    numbers = {key for key, value in values if type(value) is float and is_searchable(kind.Config, key)}
    features = None if issubclass(kind, HasCriterion) else "features"
    untrained = max(phase.epochs[0] for phase in registry.build("models", name, config, IMAGE_SHAPE, CLASSES).phases())
    made = [
        trial(
            name,
            seed=int(random.integers(5)),
            config=config | {key: float(random.uniform(0.1, 0.9)) for key in sorted(numbers)},
            learning_rate=float(10 ** random.uniform(-4, -2.5)),
            weight_decay=float(random.choice([0.0, 0.1])),
            schedule=str(random.choice(["constant", "cosine", "one-cycle"])),
            warmup=float(random.choice([0.0, 0.2])),
            clip=random.choice([None, 0.5, 5.0]),
            ema=random.choice([None, 0.5, 0.9]),
            epochs=untrained + int(random.integers(1, 5)),
            patience=int(random.integers(1, 3)),
            batch_size=64,  # so the last batch of an epoch is smaller
        )
        for _ in range(count)
    ]
    return [replace(each, features=features) for each in made]


@each_trained_model
def test_packed_trials_end_as_each_does_alone(name, config, together, alone):
    requested = random_trials(name, config, 8)
    assert len({each.shape for each in requested}) == 1
    packed, notes = together(requested)
    assert notes == [], "it was one pack"
    one_by_one = alone(requested)
    for each in requested:
        same(each, packed, one_by_one)
    lengths = {len(packed.find(each.fingerprint(DIGEST))["history"]) for each in requested}
    assert len(lengths) > 1, "some left the pack before others"


def test_packed_trials_are_augmented_as_each_is_alone(together, alone):
    requested = [trial(seed=seed, batch_size=64, augment=["flip", "shift"]) for seed in range(3)]
    packed, notes = together(requested)
    assert notes == [], "it was one pack"
    one_by_one, plain = alone(requested), trial(batch_size=64)
    alone([plain])
    for each in requested:
        same(each, packed, one_by_one)
    histories = [one_by_one.find(each.fingerprint(DIGEST))["history"] for each in (requested[0], plain)]
    assert histories[0] != histories[1]


def test_a_member_that_diverges_leaves_alone(together, alone):
    """At an absurd rate the loss becomes NaN in the midst of an epoch, whose steps the others still take."""
    requested = rates(1e-3, 1e30, 2e-3)
    packed, _ = together(requested)
    one_by_one = alone(requested)
    assert packed.find(requested[1].fingerprint(DIGEST))["status"] == "diverged"
    for each in requested:
        same(each, packed, one_by_one)


def test_when_all_members_diverge_the_pack_is_over(together):
    requested = rates(1e30, 2e30)
    packed, notes = together(requested)
    assert notes == []
    assert {packed.find(each.fingerprint(DIGEST))["status"] for each in requested} == {"diverged"}


def test_a_member_that_is_pruned_leaves_alone(together, alone):
    """As successive halving does; the others are not disturbed."""

    def prune(state):
        if state.epoch == 2:
            raise PrunedError(state.history, {"grace": 2, "reduction": 3})

    requested, seen = rates(1e-3, 2e-3, 3e-3), []
    watches = [
        Watch(lambda state: seen.append(state.epoch)),
        Watch(prune, rungs=[2], ended=lambda: seen.append("pruned")),
        UNWATCHED,
    ]
    packed, _ = together(requested, watches=watches)
    assert seen == [1, 2, "pruned", 3]
    one_by_one = alone(requested)
    same(requested[0], packed, one_by_one)
    pruned = packed.find(requested[1].fingerprint(DIGEST))
    assert (pruned["status"], pruned["epoch"], len(pruned["history"])) == ("pruned", 2, 2)
    in_full = one_by_one.find(requested[1].fingerprint(DIGEST))["history"][1]["val_loss"]
    assert pruned["criterion"] == pytest.approx(in_full, rel=1e-3)


@pytest.mark.parametrize("setting", [{"ema": 0.9}, {"schedule": "one-cycle"}, {"clip": 0.1}, {"warmup": 0.5}], ids=str)
def test_the_settings_of_one_member_do_not_affect_another(setting, together, alone):
    """Trained with one that has it, a trial without ends as ever."""
    requested = [trial(), trial(**setting)]
    packed, _ = together(requested)
    one_by_one = alone(requested)
    for each in requested:
        same(each, packed, one_by_one)
    own, other = (packed.find(each.fingerprint(DIGEST))["criterion"] for each in requested)
    assert own != other


@pytest.mark.parametrize("count", [1, 2])
def test_the_average_of_weights_is_validated_and_kept(count, setup, together):
    """Of steps that hardly move the weights it lies between the first and the last."""
    requested = [trial(epochs=1, ema=0.9, learning_rate=rate) for rate in (1e-3, 2e-3)[:count]]
    store, _ = together(requested)
    for each in requested:
        kept = load_file(f"{store.storage.url}/{each.fingerprint(DIGEST)}/model.safetensors")
        plain, _ = together([replace(each, training=each.training | {"ema": None})], name="plain")
        name = replace(each, training=each.training | {"ema": None}).fingerprint(DIGEST)
        last = load_file(f"{plain.storage.url}/{name}/model.safetensors")["decoder.0.bias"]
        first = each.build_model(setup.examples, CLASSES).decoder[0].bias.detach().numpy()
        moved, whole = (np.linalg.norm(each - first) for each in (kept["decoder.0.bias"], last))
        assert 0.2 * whole < moved < 0.95 * whole


@pytest.mark.parametrize("count", [1, 2])
def test_validation_sees_models_as_they_are_used(count, together, monkeypatch):
    """Dropout or the statistics of a batch would falsify what epochs and trials are compared by."""
    kind, seen = registry.find("models", "vae"), []
    posterior = kind.posterior

    def watched(self, x, label=None):
        seen.append((torch.is_grad_enabled(), self.training))
        return posterior(self, x, label)

    monkeypatch.setattr(kind, "posterior", watched)
    together(rates(*[1e-3, 2e-3][:count], epochs=2))
    assert set(seen) == {(True, True), (False, False)}


# Going on after an interruption


def interrupted(after: int) -> Watch:
    def interrupt(state):
        if state.epoch == after:
            raise Interruption

    return Watch(interrupt)


def test_an_interrupted_pack_goes_on_in_whatever_company(together, alone):
    requested = rates(1e-3, 2e-3, 3e-3, epochs=4)
    with pytest.raises(Interruption):
        together(requested[:2], watches=[UNWATCHED, interrupted(2)])
    seen = []
    watches = [Watch(lambda state, row=row: seen.append((row, state.epoch))) for row in range(3)]
    packed, notes = together(requested, watches=watches)
    assert notes == []
    assert min(epoch for row, epoch in seen if row == 0) > 1, "it goes on from an epoch that was kept"
    assert min(epoch for row, epoch in seen if row == 2) == 1, "this one is new"
    one_by_one = alone(requested)
    for each in requested:
        same(each, packed, one_by_one)


def test_checkpoints_take_a_tenth_of_the_time(monkeypatch):
    now, saved = [0.0], []
    monkeypatch.setattr(packs.time, "perf_counter", lambda: now[0])

    def save(epoch):
        now[0] += 0.5
        saved.append(epoch)

    throttle = CheckpointThrottle()
    for epoch in range(1, 25):
        now[0] += 1.0
        for _ in range(2):
            throttle(epoch, lambda epoch=epoch: save(epoch))
    assert saved == [1, 1, 10, 10, 19, 19]


# What can't be packed


def test_a_pack_that_needs_too_much_memory_is_halved(together, alone, monkeypatch):
    sizes = []

    def small(trained, *others, train_epoch=loop.train_epoch):
        sizes.append(len(trained.members))
        if len(trained.members) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        train_epoch(trained, *others)

    monkeypatch.setattr(loop, "train_epoch", small)
    requested = rates(1e-3, 2e-3, 3e-3, epochs=1)
    packed, notes = together(requested)
    assert sizes == [3, 2, 1]
    assert len(notes) == 1
    assert "3 trials can't be packed" in notes[0]
    assert "out of memory" in notes[0]
    one_by_one = alone(requested)
    for each in requested:
        same(each, packed, one_by_one)


def test_a_model_that_can_not_be_packed_is_trained_trial_by_trial(together, monkeypatch):
    loss = registry.find("models", "vae").loss

    def looks(self, batch, noise):
        terms = loss(self, batch, noise)
        assert terms["loss"].sum().item() > 0  # no value can be read under vmap
        return terms

    monkeypatch.setattr(registry.find("models", "vae"), "loss", looks)
    requested = rates(1e-3, 2e-3, epochs=1)
    packed, notes = together(requested)
    assert len(notes) == 1
    assert {packed.find(each.fingerprint(DIGEST))["status"] for each in requested} == {"finished"}


def test_a_trial_that_fails_takes_no_other_with_it(together, monkeypatch):
    loss = registry.find("models", "vae").loss

    def fails(self, batch, noise):
        if self.kl.beta == 2.0:  # which no packed trial can evaluate either
            raise ValueError("beta is 2")
        return loss(self, batch, noise)

    monkeypatch.setattr(registry.find("models", "vae"), "loss", fails)
    requested = [trial(config={"beta": beta}, epochs=1) for beta in (2.0, 1.0, 3.0)]
    with pytest.raises(ValueError, match="beta is 2"):
        together(requested)
    store, _ = together(requested[1:])
    statuses = [store.find(each.fingerprint(DIGEST))["status"] for each in requested]
    assert statuses == ["failed", "finished", "finished"]


def test_what_is_over_gives_its_memory_back(setup):
    configs = [TrainingConfig(epochs=epochs) for epochs in (1, 2, 3)]
    members = [loop.begin(build("vae", {"latent": 3}), setup, config, seed=0) for config in configs]
    for member in loop.optimise(members, setup):
        left = [each.state for each in members if each.state.epoch > member.state.config.epochs]
        member.state.release()
        assert {str(weight.device) for weight in member.state.model.state_dict().values()} == {"meta"}
        assert not member.state.moments
        assert all(torch.isfinite(weight).all() for each in left for weight in each.model.parameters())


# Its parts


def test_trials_of_one_shape_differ_in_real_numbers_the_seed_and_when_to_end():
    shape = trial().shape
    packable = [
        trial(seed=1),
        trial(config={"beta": 4.0}),
        trial(learning_rate=0.1, weight_decay=0.1, epochs=9, patience=2, max_steps=7),
    ]
    others = [
        trial(config={"latent": 4}),
        trial(config={"network": "conv"}),
        trial(config={"observation": "gaussian"}),
        trial(config={"perceptual": 1.0}),
        trial(batch_size=51),
        trial(precision="bfloat16"),
        trial("autoencoder"),
    ]
    assert {each.shape for each in packable} == {shape}
    assert len({shape, *(each.shape for each in others)}) == 1 + len(others)
    closed = Trial("ppca", registry.find("models", "ppca").Config().model_dump(), None, 0)
    assert closed.shape is None


@pytest.mark.parametrize("kind", ["normal", "uniform", "bits"])
def test_rows_are_drawn_as_declared(kind):
    draw = Draw(kind, (50, 40))
    rows, again = (draw.rows(30, torch.Generator().manual_seed(0)) for _ in range(2))
    assert torch.equal(rows, again)
    assert (rows.shape, rows.nbytes) == ((30, 50, 40), 30 * draw.bytes_a_row)
    low, high = {"normal": (-6, 6), "uniform": (0, 1), "bits": (-(2**15), 2**15 - 1)}[kind]
    assert low <= rows.min() <= rows.max() <= high
    middle, spread = {"normal": (0, 1), "uniform": (0.5, 12**-0.5), "bits": (-0.5, 2**16 * 12**-0.5)}[kind]
    assert rows.double().mean() == pytest.approx(middle, abs=0.02 * spread)
    assert rows.double().std() == pytest.approx(spread, rel=0.02)


@pytest.mark.parametrize("batch_size", [110, 125])  # 4 whole batches an epoch, with a smaller one and without
def test_draws_made_some_steps_ahead_are_the_same_alone_together_and_resumed(together, alone, monkeypatch, batch_size):
    monkeypatch.setattr("latentmill.training.noise.STEPS_AHEAD", 3)
    requested = rates(1e-3, 3e-3, epochs=3, batch_size=batch_size)
    one_by_one, (packed, notes) = alone(requested), together(requested)
    with pytest.raises(Interruption):
        together(requested, "resumed", [UNWATCHED, interrupted(2)])
    resumed, _ = together(requested, "resumed")
    monkeypatch.setattr("latentmill.training.noise.STEPS_AHEAD", 1)
    step_by_step, _ = together(requested, "step by step")
    assert not notes
    for each in requested:
        same(each, packed, one_by_one)
        same(each, resumed, one_by_one)
        histories = [store.find(each.fingerprint(DIGEST))["history"] for store in (packed, step_by_step)]
        assert histories[0] != histories[1], "other draws, or nothing was made ahead"


@pytest.mark.parametrize("setting", [{}, {"precision": "bfloat16"}, {"augment": ["flip", "shift"]}], ids=str)
def test_a_trial_alone_is_resumed_to_the_bit(together, setting):
    (requested,) = rates(1e-3, epochs=3, batch_size=125, **setting)
    undisturbed, _ = together([requested])
    with pytest.raises(Interruption):
        together([requested], "resumed", [interrupted(2)])
    resumed, _ = together([requested], "resumed")
    records = [store.find(requested.fingerprint(DIGEST)) for store in (undisturbed, resumed)]
    assert records[0]["weights_sha256"] == records[1]["weights_sha256"]
    assert records[0]["history"][0]["train_loss"] > records[0]["history"][-1]["train_loss"]


def test_a_rank_sees_its_own_rows_of_what_is_drawn_ahead(setup, monkeypatch):
    class Second(SingleRank):
        def part(self, indices):
            return Part(indices[7:], slice(7, 10), 0.3)

    seen, kind = [], registry.find("models", "vae")
    loss = kind.loss
    monkeypatch.setattr(kind, "loss", lambda self, batch, noise: seen.append(noise) or loss(self, batch, noise))
    member, again = (state(build("vae", {"latent": 3}), TrainingConfig(), seed=1) for _ in range(2))
    whole = NoiseAhead([again]).next(10)
    trainer([member], replace(setup, ranks=Second())).step(setup.examples, np.arange(10)[None])
    assert {("", name) for name in seen[0]} == whole.keys() == {("", "x"), ("", "z")}
    assert all(torch.equal(mine, whole["", name][0][7:]) for name, mine in seen[0].items())


def state(model, config, seed=0, examples=500) -> TrainingState:
    return TrainingState(model, config, *(torch.Generator().manual_seed(seed) for _ in range(2)), examples)


def test_a_phase_may_need_no_noise():
    model = SimpleNamespace(phases=lambda: (Phase(None),))
    noise = NoiseAhead([SimpleNamespace(model=model, config=TrainingConfig(), noise=torch.Generator())])
    assert [noise.next(5) for _ in range(3)] == [{}, {}, {}]


@pytest.mark.parametrize(("most", "ahead"), [(2**21, 8), (1000, 3), (10, 1)])
def test_no_more_is_drawn_ahead_than_takes_some_memory(monkeypatch, most, ahead):
    monkeypatch.setattr("latentmill.training.noise.MADE_AHEAD", most)
    assert steps_ahead({("", "z"): Draw("normal", (4,))}, 20) == ahead, "of 320 bytes a step"


def test_each_member_sees_all_images_once_an_epoch_in_an_order_of_its_own(setup):
    generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    batches = list(setup.examples.epoch(120, generators))
    assert [batch.shape for batch in batches] == [(2, 120)] * 4 + [(2, 20)]
    orders = np.concatenate(batches, axis=1)
    assert (np.sort(orders) == np.arange(500)).all()
    for order, seed in zip(orders, (1, 2), strict=True):
        assert (order == torch.randperm(500, generator=torch.Generator().manual_seed(seed)).numpy()).all()


def test_orders_lie_where_the_images_are(digits):
    """Else each step of a GPU would wait for the last, for its own indices."""
    images = Batches(digits, "meta")  # stands in for a GPU: a device that is not the CPU
    for indices in images.epoch(100, [torch.Generator()] * 2):
        assert indices.device == images.device == images[indices].device


class Kernels(TorchDispatchMode):
    """Counts what a GPU would launch; a view of a tensor is no launch."""

    def __init__(self):
        super().__init__()
        self.seen = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.seen += not function.is_view
        return function(*args, **(kwargs or {}))


@each_trained_model
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_step_is_as_many_kernels_for_many_members_as_for_few(setup, name, config, precision):
    seen = {}
    for size in (2, 16):
        configs = [
            TrainingConfig(learning_rate=1e-3 * (1 + row), weight_decay=0.1, precision=precision) for row in range(size)
        ]
        members = [state(build(name, config, seed=row), each, row) for row, each in enumerate(configs)]
        packed, indices = trainer(members, setup), np.tile(np.arange(10), (size, 1))
        packed.step(setup.examples, indices)  # which draws for those that follow
        with Kernels() as kernels:
            packed.step(setup.examples, indices)
        seen[size] = kernels.seen
    assert seen[2] == seen[16]


@pytest.mark.parametrize("decays", [(0.0, 0.0, 0.0), (0.0, 0.1, 0.2)])
@pytest.mark.parametrize("learning_rates", [(1e-3, 1e-3, 1e-3), (1e-4, 1e-3, 1e-2)])
def test_every_member_is_moved_as_by_an_optimiser_of_its_own(setup, monkeypatch, learning_rates, decays):
    monkeypatch.setattr("latentmill.training.noise.STEPS_AHEAD", 1)
    configs = [
        TrainingConfig(learning_rate=rate, weight_decay=decay)
        for rate, decay in zip(learning_rates, decays, strict=True)
    ]
    models = [build("vae", {"latent": 3}, seed=row) for row in range(3)]
    members = [state(build("vae", {"latent": 3}, seed=row), config, row) for row, config in enumerate(configs)]
    packed = trainer(members, setup)
    assert isinstance(packed, PackedTrainer)
    noise = [torch.Generator().manual_seed(row) for row in range(3)]
    optimisers = [
        torch.optim.AdamW(model.parameters(), config.learning_rate, weight_decay=config.weight_decay)
        for model, config in zip(models, configs, strict=True)
    ]
    indices = np.arange(30).reshape(3, 10)
    for _ in range(5):
        packed.step(setup.examples, indices)
        for model, optimiser, generator, rows in zip(models, optimisers, noise, indices, strict=True):
            optimiser.zero_grad()
            (phase,) = model.phases()
            terms = phase.objective(model, setup.examples.batch(rows), drawn(phase.draws, 10, generator))
            terms["loss"].mean().backward()
            optimiser.step()
    for member, model in zip(members, models, strict=True):
        for name, weight in model.state_dict().items():
            assert torch.allclose(member.model.state_dict()[name], weight, atol=1e-5), name


# Phases and buffers


class Game(Model, HasCriterion):
    """Two phases of their own parameters, one of them at every third step; a buffer that follows the images' mean."""

    Config = Settings
    mean: torch.Tensor

    def __init__(self):
        super().__init__(Settings(), (1, 8, 8))
        self.left, self.right = torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(2))
        self.register_buffer("mean", torch.zeros(()))
        self.criterion_draws = {}

    def phases(self):
        often = Phase(Game.left_loss, {}, "left", moves="left", buffers={"mean": "mean"})
        return often, Phase(Game.right_loss, {}, "right", moves="right", rate=0.1, betas=(0.0, 0.9), every=3)

    def left_loss(self, batch, noise):
        image = batch["image"].flatten(1).mean(1)
        return {
            "loss": (self.left - self.right.detach() - 1).square().sum() + 0 * image,
            "mean": 0.5 * self.mean + image.mean(),
        }

    def right_loss(self, batch, noise):
        return {"loss": (self.right - self.left).square().sum() + 0 * batch["image"].flatten(1).mean(1)}

    def criterion(self, batch, noise):
        return (self.left - 1).square().sum() + 0 * batch["image"].flatten(1).mean(1)


@pytest.mark.parametrize("count", [1, 2])
def test_each_phase_moves_its_own_parameters_when_it_is_due(count, setup):
    members = [state(Game(), TrainingConfig(learning_rate=0.01 * (1 + row)), row) for row in range(count)]
    trained, indices, seen = trainer(members, setup), np.tile(np.arange(10), (count, 1)), []
    for _ in range(4):
        before = [(each.model.left.detach().clone(), each.model.right.detach().clone()) for each in members]
        terms = trained.step(setup.examples, indices)
        moved = [
            (bool((each.model.left != left).all()), bool((each.model.right != right).any()))
            for each, (left, right) in zip(members, before, strict=True)
        ]
        seen.append((moved[0], sorted(terms)))
        assert len(set(moved)) == 1
    every, often = ["left_loss", "loss", "right_loss"], ["left_loss", "loss"]
    assert seen == [((True, True), every), ((True, False), often), ((True, False), often), ((True, True), every)]


class InTurn(Game):
    """The left one for two epochs, then the right one; by the criterion, the first epoch is the best."""

    def phases(self):
        left = Phase(Game.left_loss, {}, "left", moves="left", buffers={"mean": "mean"}, epochs=(0, 2))
        return left, Phase(Game.right_loss, {}, "right", moves="right", epochs=(2, None))

    def criterion(self, batch, noise):
        return super().criterion(batch, noise) * 0 + self.left.square().sum() + self.right.square().sum()


@pytest.mark.parametrize("count", [1, 2])
def test_phases_run_from_epoch_to_epoch_and_only_the_last_ones_are_compared(count, setup):
    config = TrainingConfig(learning_rate=0.01, batch_size=50, epochs=4, patience=2)
    members = [loop.begin(InTurn(), setup, config, seed) for seed in range(count)]
    list(loop.optimise(members, setup))
    for member in members:
        terms = [row.keys() & {"train_left_loss", "train_right_loss"} for row in member.state.history]
        assert terms == 2 * [{"train_left_loss"}] + 2 * [{"train_right_loss"}]
        losses = [row["val_loss"] for row in member.state.history]
        assert losses == sorted(losses), "it rises"
        assert member.state.best_epoch == 3


def test_a_trial_must_reach_its_last_phase(setup):
    with pytest.raises(
        InputError, match="more than 2 epochs, after which the last phase begins, but epochs and max_steps"
    ):
        loop.begin(InTurn(), setup, TrainingConfig(epochs=2), seed=0)


@pytest.mark.parametrize("count", [1, 2])
def test_a_buffer_becomes_what_the_objective_returns(count, setup):
    members = [state(Game(), TrainingConfig(learning_rate=0.01), row) for row in range(count)]
    trained, mean = trainer(members, setup), setup.examples[np.arange(10)].mean()
    for expected in (mean, 1.5 * mean):
        terms = trained.step(setup.examples, np.tile(np.arange(10), (count, 1)))
        assert "left_mean" not in terms
        for member in members:
            assert member.model.mean == pytest.approx(float(expected), rel=1e-5)


def test_phases_are_resumed_with_moments_of_their_own(setup):
    whole = loop.begin(Game(), setup, TrainingConfig(epochs=4, batch_size=50), seed=0)
    list(loop.optimise([whole], setup))
    first = loop.begin(Game(), setup, TrainingConfig(epochs=2, batch_size=50), seed=0)
    list(loop.optimise([first], setup))
    second = loop.begin(Game(), setup, TrainingConfig(epochs=4, batch_size=50), seed=0)
    from_bytes(to_bytes(first.state), second.state)
    list(loop.optimise([second], setup))
    assert whole.state.moments.keys() == {"left/left", "right/right"}
    for name, value in whole.state.model.state_dict().items():
        assert torch.equal(second.state.model.state_dict()[name], value), name


def test_with_bfloat16_networks_train_to_about_the_same(alone):
    exact, rounded = trial(epochs=8), trial(epochs=8, precision="bfloat16")
    store = alone([exact, rounded])
    criteria = [store.find(each.fingerprint(DIGEST))["criterion"] for each in (exact, rounded)]
    assert criteria[0] != criteria[1]
    assert criteria[0] == pytest.approx(criteria[1], rel=0.02)
    weights = load_file(f"{store.storage.url}/{rounded.fingerprint(DIGEST)}/model.safetensors")
    assert {str(weight.dtype) for weight in weights.values()} == {"float32"}


@each_trained_model
def test_with_bfloat16_all_terms_are_float32(name, config, setup, generator):
    model = build(name, config).train()
    model.fit(setup.examples, setup.val, generator)
    batch = setup.examples.batch(slice(0, 20))
    for phase in model.phases():
        with torch.autocast("cpu", torch.bfloat16):
            terms = phase.objective(model, batch, drawn(phase.draws, 20, generator))
        assert {key: value.dtype for key, value in terms.items()} == dict.fromkeys(terms, torch.float32)


def test_the_mean_of_an_epoch_is_not_summed_in_bfloat16(setup, monkeypatch):
    """As that of a model might be, whose terms are."""
    member = loop.begin(build("vae", {"latent": 2}), setup, TrainingConfig(batch_size=1), 0)
    trained = trainer([member.state], setup)
    monkeypatch.setattr(trained, "step", lambda *given: {"loss": torch.tensor([1.375], dtype=torch.bfloat16)})
    check = DivergenceCheck(trained, setup.examples.device)
    assert loop.train_steps(trained, setup.examples, check) == [{"loss": 1.375}]


@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own imports
@pytest.mark.slow
def test_compiled_steps_give_the_same(context, tmp_path, alone):
    requested = rates(1e-3, 2e-3, epochs=2)
    one_by_one, compiled = alone(requested), TrialStore(tmp_path / "compiled", pytest.fail)
    packs.run_pack(requested, context(compiled, compiled=True), [UNWATCHED] * 2)
    for each in requested:
        same(each, compiled, one_by_one)
    single = TrialStore(tmp_path / "single")
    running.run(requested[0], context(single, compiled=True))
    same(requested[0], single, one_by_one)


# How many


@pytest.fixture
def seconds(monkeypatch):
    """The seconds of a member's step by the size of its pack, in place of a measurement; the sizes tried."""
    tried = []

    def seconds(of):
        def measured(requested, size, *others):
            tried.append(size)
            return of(size)

        monkeypatch.setattr(pack_size, "_member_seconds", measured)
        return tried

    return seconds


@pytest.mark.parametrize(
    ("of", "most", "best", "sizes"),
    [
        (lambda size: 1e-3 / size, 50, 50, [1, 4, 16, 50]),
        (lambda size: 1e-3 / min(size, 16), 500, 16, [1, 4, 16, 64, 256]),
        (lambda size: 1e-3, 500, 1, [1, 4, 16]),
        (lambda size: 1e-3 / (1 if size < 16 else 2), 500, 16, [1, 4, 16, 64, 256]),
        (lambda size: 1e-2 / size, 500, 1, [1]),  # so long a step is all arithmetic, on a CPU
        (lambda size: 1e-3 / size if size < 10 else None, 500, 4, [1, 4, 16]),  # no more fit
        (lambda size: 1e-3, 1, 1, [1]),
    ],
)
def test_a_pack_grows_while_that_pays(seconds, setup, of, most, best, sizes):
    tried = seconds(of)
    assert best_size(trial(), setup, CLASSES, most) == best
    assert tried == sizes


def test_a_pack_that_can_not_be_computed_is_not_chosen(setup, monkeypatch):
    def fails(self, *arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(PackedTrainer, "step", fails)
    assert best_size(trial(config={"hidden": 8}), setup, CLASSES, 64) == 1


class SameShape:
    """What a plan hands out, as far as sizes look at it."""

    trial = trial()
    shape = trial.shape


def pack_lengths(sizes, count, of=None) -> list[int]:
    """How many at a time, until none of `count` is left."""
    at_a_time = []
    while count:
        at_a_time.append(min(sizes(of or SameShape(), count), count))
        count -= at_a_time[-1]
    return at_a_time


@pytest.mark.parametrize(
    ("count", "workers", "best", "at_a_time"),
    [
        (12, 2, 64, [6, 6]),
        (12, 2, 4, [3, 3, 3, 3]),
        (10, 4, 64, [3, 3, 3, 1]),
        (100, 4, 5, [5] * 20),
        (4, 4, 64, [1, 1, 1, 1]),
        (3, 8, 64, [1, 1, 1]),
        (16, 2, 1, [1] * 16),
    ],
)
def test_all_workers_get_equally_many_and_the_last_packs_are_as_large_as_the_first(count, workers, best, at_a_time):
    sizes = PackSizes("auto", workers, [SameShape()] * count, lambda of, count: best)
    assert pack_lengths(sizes, count) == at_a_time
    assert pack_lengths(sizes, count) == at_a_time, "another round is divided anew"


def test_only_shapes_that_several_of_a_worker_share_are_measured():
    requested = []
    other = SameShape()
    other.shape = "another"
    sizes = PackSizes("auto", 4, [SameShape()] * 10 + [other], lambda of, count: requested.append(count) or 5)
    assert requested == [3], "of the other shape there is but one"
    assert pack_lengths(sizes, 3, other) == [1, 1, 1]
    assert PackSizes(7, 4, [SameShape()] * 10, pytest.fail)(SameShape(), 2) == 7


# The sweep


LADDER = {"vae": {"latent": 3, "hidden": 20, "beta": [1.0, 1.5, 2.0, 4.0, 8.0]}, "ppca": {"latent": 3}}


@pytest.mark.slow
def test_a_sweep_of_packed_trials_ranks_as_one_without(digits, tmp_path):
    plain, _ = swept(digits, tmp_path / "plain", LADDER, workers=2, pack="off")
    packed, listener = swept(digits, tmp_path / "packed", LADDER, workers=2, pack=3)
    assert listener.notes == []
    assert sorted(listener.starts) == sorted(planned.fingerprint for planned in packed.planned)
    assert dict(listener.ends) == {key: record["status"] for key, record in packed.records.items()}
    ranked = [ranking(outcomes(plan.planned, plan.records))["vae"] for plan in (plain, packed)]
    orders = [[each.best.planned.fingerprint for each in found] for found in ranked]
    assert orders[0] == orders[1]
    for fingerprint, record in plain.records.items():
        assert packed.records[fingerprint]["criterion"] == pytest.approx(record["criterion"], rel=1e-3)
    again, _ = swept(digits, tmp_path / "plain", LADDER, pack="off")
    assert again.missing == 0, "how trials were computed is no part of what they are"


def test_members_that_end_before_others_are_told_of_while_those_go_on(tmp_path):
    sections = {
        "data": {"source": "digits"},
        "trial": {},
        "priors": {"normal": {}},
        "ladder": LADDER,
        "evaluation": {},
        "export": {},
    }
    params = Params.model_validate(sections | {"train": {"storage": str(tmp_path)}})
    plan, listener = Plan(params, DIGEST, TrialStore(tmp_path), optuna_rounds), Listener()
    search = PlanSearch(plan, listener, PackSizes(5, 1, [], lambda trial, count: 1))
    first, lost, last, *others = (each["fingerprint"] for each in search.suggest("a")["trials"])
    for fingerprint in (first, *others):
        keep(plan.store, fingerprint, "pruned")
    known = plan.missing
    search.on_trial_result("a", {"trials": [{"fingerprint": each, "ended": True} for each in (first, lost, *others)]})
    assert listener.ends == [(each, "pruned") for each in (first, *others)]
    assert plan.missing == known - 3
    search.on_trial_result("a", {"trials": [{"fingerprint": lost, "epoch": 1}]})
    assert listener.reports == [(lost, 1)], "what could not be kept may be trained again there"
    keep(plan.store, lost)
    search.starved.add("a")
    search.on_trial_complete("a", error=True)
    assert listener.ends[-1] == (lost, "finished")
    assert "its worker died, and it is run again" in listener.notes[0], "and not out of memory: it was not alone"
    assert plan.waiting[0].fingerprint == last


def test_what_a_worker_reports_of_members_that_end():
    reported = []
    reports = worker.Reports(reported.append, 0.0, trials=2)
    data = SimpleNamespace(settings=SweepConfig())
    watches = [worker.watch(trial(), "vae", name, data, SingleRank(), reports) for name in ("one", "other")]
    reached = SimpleNamespace(epoch=1, epochs_allowed=3, history=[{"train_loss": 2.0, "val_loss": 1.0}])
    watches[0].after_epoch(reached)
    watches[0].ended()
    assert [
        [(row["fingerprint"], row.get("epoch"), "ended" in row) for row in each["trials"]] for each in reported
    ] == [
        [("one", 1, False)],
        [("one", None, True)],
    ]


def test_a_model_in_part_untrained_is_not_pruned(monkeypatch):
    monkeypatch.setattr(worker.ray, "get", lambda asked: True)
    halving = SimpleNamespace(report=SimpleNamespace(remote=lambda *reported: None))
    data = SimpleNamespace(settings=SweepConfig(asha={"grace": 1, "reduction": 2}), halving=halving)
    reports = worker.Reports(lambda row: None, 0.0, trials=1)
    watch = worker.watch(trial(epochs=9), "dbn", "one", data, SingleRank(), reports)
    losses = {"train_loss": 2.0, "val_loss": 1.0}
    state = SimpleNamespace(epochs_allowed=9, untrained_epochs=2, history=[losses])
    for epoch in (1, 2):
        watch.after_epoch(SimpleNamespace(epoch=epoch, **vars(state)))
    with pytest.raises(PrunedError):
        watch.after_epoch(SimpleNamespace(epoch=4, **vars(state)))


@pytest.mark.slow
def test_asha_prunes_members_of_a_pack(digits, tmp_path):
    ladder = {"vae": {"latent": 3, "learning_rate": [1e-9, 1e-8, 1e-7, 1e-3]}}
    plan, _ = swept(digits, tmp_path, ladder, {"epochs": 9}, asha={"grace": 2, "reduction": 2}, workers=1, pack=4)
    statuses = [plan.records[planned.fingerprint]["status"] for planned in plan.planned]
    assert statuses[-1] == "finished"
    assert "pruned" in statuses
    pruned = next(record for record in plan.records.values() if record["status"] == "pruned")
    assert json.loads((tmp_path / pruned["fingerprint"] / "trial.json").read_text())["epoch"] in (2, 4, 8)
