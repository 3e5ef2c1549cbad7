"""Several workers that train one trial together come to the same as one."""

import json

import pytest
import torch
from conftest import build, each_variant
from safetensors.numpy import load_file
from test_sweep import swept

from latentmill.data.batches import Batches
from latentmill.draws import drawn
from latentmill.training.ranks import DataParallel
from latentmill.trials import running
from latentmill.trials.running import Context
from latentmill.trials.store import TrialStore


def member(rank, size):
    """A member without its process group, for what needs none."""
    team = DataParallel.__new__(DataParallel)
    team.rank, team.size, team.leads = rank, size, rank == 0
    return team


@each_variant
@pytest.mark.parametrize("size", [2, 3])
def test_the_parts_of_a_batch_make_up_its_terms(name, config, size, digits):
    model, images = build(name, config), Batches(digits)
    indices = torch.randperm(100).numpy()
    noise = drawn(model.draws, 100, torch.Generator().manual_seed(0))
    whole = model({"image": images[indices]}, noise)
    sums = dict.fromkeys(whole, 0.0)
    for rank in range(size):
        part = member(rank, size).part(indices)
        own = {name: value[part.rows] for name, value in noise.items()}
        for term, value in model({"image": images[part.indices]}, own).items():
            sums[term] += value.mean().item() * part.weight
    assert sums == pytest.approx({term: value.mean().item() for term, value in whole.items()}, rel=1e-5)


def test_a_member_without_rows_has_no_weight():
    indices = torch.arange(2).numpy()
    parts = [member(rank, 3).part(indices) for rank in range(3)]
    assert sum(part.weight for part in parts) == pytest.approx(1)
    assert [len(part.indices) for part in parts] == [1, 1, 1]
    assert min(part.weight for part in parts) == 0


@pytest.mark.slow
def test_two_workers_train_as_one_does(digits, tmp_path):
    """Float addition in another order differs in the last place, and Adam amplifies it: hence the tolerance."""
    ladder = {"vae": {"latent": 3, "components": 3, "batch_size": 64}}  # the last batch has 52 rows
    together, listener = swept(digits, tmp_path / "together", ladder, workers=2, workers_per_trial=2)
    (fingerprint,) = together.records
    alone = TrialStore(tmp_path / "alone")
    running.run(
        together.planned[0].trial,
        Context(Batches(digits[:500]), Batches(digits[500:]), together.data_digest, alone),
    )
    assert together.records[fingerprint]["status"] == "finished"
    assert [epoch for _, epoch in listener.reports] == [1, 2, 3]
    weights, others = (load_file(tmp_path / name / fingerprint / "model.safetensors") for name in ("alone", "together"))
    for key in weights:
        if not key.startswith(("gaussian", "mixture")):  # fitted to the codes, one of them by iteration
            assert weights[key] == pytest.approx(others[key], abs=2e-4), key
    histories = [
        json.loads((tmp_path / name / fingerprint / "trial.json").read_text())["history"]
        for name in ("alone", "together")
    ]
    for mine, theirs in zip(*histories, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4)
