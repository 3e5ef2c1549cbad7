"""Ranks that share a trial have the result of a single one."""

import json
from dataclasses import replace

import pytest
import torch
from conftest import CLASSES, build, each_model
from safetensors.numpy import load_file
from test_sweep import swept

from latentmill.config import TrainingConfig
from latentmill.contract import Phase
from latentmill.draws import drawn
from latentmill.errors import InputError
from latentmill.training.loop import begin
from latentmill.training.ranks import DataParallel
from latentmill.trials import running
from latentmill.trials.running import Context
from latentmill.trials.store import TrialStore


def rank_of(rank, size):
    """A rank without its process group, for what needs none."""
    ranks = DataParallel.__new__(DataParallel)
    ranks.rank, ranks.size, ranks.is_rank_zero = rank, size, rank == 0
    return ranks


@each_model
@pytest.mark.parametrize("size", [2, 3])
def test_the_parts_of_a_batch_make_up_its_terms(name, config, size, setup):
    model, indices = build(name, config), torch.randperm(100).numpy()
    for phase in (each for each in model.phases() if not each.couples_rows):
        noise = drawn(phase.draws, 100, torch.Generator().manual_seed(0))
        whole = phase.objective(model, setup.examples.batch(indices), noise)
        sums = dict.fromkeys(whole, 0.0)
        for rank in range(size):
            part = rank_of(rank, size).part(indices)
            own = {name: value[part.rows] for name, value in noise.items()}
            for term, value in phase.objective(model, setup.examples.batch(part.indices), own).items():
                sums[term] += value.mean().item() * part.weight
        assert sums == pytest.approx({term: value.mean().item() for term, value in whole.items()}, rel=1e-5)


def test_a_rank_without_rows_has_no_weight():
    indices = torch.arange(2).numpy()
    parts = [rank_of(rank, 3).part(indices) for rank in range(3)]
    assert sum(part.weight for part in parts) == pytest.approx(1)
    assert [len(part.indices) for part in parts] == [1, 1, 1]
    assert min(part.weight for part in parts) == 0


def test_a_loss_that_couples_rows_is_refused(setup):
    model = build("vae", {"latent": 3})
    model.phases = lambda: (Phase(type(model).loss, model.criterion_draws, couples_rows=True),)
    begin(model, setup, TrainingConfig(), seed=0)
    with pytest.raises(InputError, match="ranks can't share a batch whose rows a loss couples"):
        begin(model, replace(setup, ranks=rank_of(0, 2)), TrainingConfig(), seed=0)


def test_buffers_are_reduced_as_declared(monkeypatch):
    ranks = rank_of(0, 2)
    monkeypatch.setattr(ranks, "sum", lambda tensors: [tensor.mul_(10) for tensor in tensors], raising=False)
    part = ranks.part(torch.arange(10).numpy())
    value = torch.tensor(3.0)
    assert [float(ranks.reduce(value, part, how)) for how in ("same", "mean", "sum")] == [3.0, 15.0, 30.0]
    assert float(value) == 3.0


@pytest.mark.slow
@pytest.mark.parametrize(
    "ladder", [{"vae": {"latent": 3, "batch_size": 64, "priors": ["flow"]}}, {"gan": {"latent": 3, "batch_size": 64}}]
)
def test_two_ranks_train_as_one_does(ladder, digits, setup, tmp_path):
    """Float addition in another order differs in the last place, and Adam amplifies it: hence the tolerance.

    The last batch has 52 rows.
    """
    together, listener = swept(digits, tmp_path / "together", ladder, workers=2, workers_per_trial=2)
    first, *priors = together.planned
    assert len(priors) == (1 if "vae" in ladder else 0)
    alone = TrialStore(tmp_path / "alone")
    features = together.features if first.trial.features else None
    running.run(first.trial, Context(setup.examples, setup.val, together.data_digest, alone, CLASSES, features))
    assert {record["status"] for record in together.records.values()} == {"finished"}
    assert not any((tmp_path / "together").glob(".ranks-*")), "the folder of a group is left"
    assert [epoch for name, epoch in listener.reports if name == first.fingerprint] == [1, 2, 3]
    weights, others = (
        load_file(tmp_path / name / first.fingerprint / "model.safetensors") for name in ("alone", "together")
    )
    for key in weights:
        assert weights[key] == pytest.approx(others[key], abs=2e-4), key
    histories = [
        json.loads((tmp_path / name / first.fingerprint / "trial.json").read_text())["history"]
        for name in ("alone", "together")
    ]
    for mine, theirs in zip(*histories, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-3)
