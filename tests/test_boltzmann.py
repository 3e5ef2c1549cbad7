"""Boltzmann machines against sums over all their states: likelihoods, bounds, chains, partition functions."""

import itertools

import pytest
import torch
from conftest import build
from torch import Tensor
from torch.nn.functional import softplus

from latentmill import registry
from latentmill.data.batches import Batches
from latentmill.evaluation.annealing import estimate_partition, estimate_partition_backward
from latentmill.evaluation.likelihood import evaluate_likelihood
from latentmill.networks.boltzmann import Boltzmann

SHAPE = (1, 2, 3)


def machine_of(visible: int, hidden: int, generator: torch.Generator) -> Boltzmann:
    machine = Boltzmann(visible, hidden, chains=5)
    randomise(machine, generator)
    return machine


@torch.no_grad()
def randomise(model: torch.nn.Module, generator: torch.Generator) -> None:
    for parameter in model.parameters():
        parameter.normal_(0, 0.7, generator=generator)


def states(units: int) -> Tensor:
    """All of them, (2^units, units)."""
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=units)))


@torch.no_grad()
def log_z(machine: Boltzmann) -> float:
    """By a sum over the hidden units, of which there are few."""
    h = states(len(machine.hidden))
    bias = machine.up(torch.zeros(len(machine.visible)))
    return float(torch.logsumexp((h @ bias + softplus(machine.down(h)).sum(1)).double(), 0))


def test_the_partition_function_is_that_of_a_sum(generator):
    """To 0.1 nats, with twenty hidden units; and that of the way back is no lower."""
    machine = machine_of(60, 20, generator)
    exact = log_z(machine)
    found = estimate_partition(machine, 1_000, generator)
    assert found.log_z == pytest.approx(exact, abs=0.1)
    assert found.standard_error < 0.05
    v = machine.gibbs(torch.zeros(100, 60), torch.rand(100, 100, 80, generator=generator))
    back = estimate_partition_backward(machine, v, 1_000, generator)
    assert back.log_z == pytest.approx(exact, abs=0.1)
    assert back.log_z > found.log_z - 3 * (found.standard_error + back.standard_error)


def test_few_temperatures_estimate_too_little_forward_and_too_much_backward(generator):
    machine = machine_of(60, 20, generator)
    v = machine.gibbs(torch.zeros(100, 60), torch.rand(100, 500, 80, generator=generator))
    forward = estimate_partition(machine, 3, generator).log_z
    backward = estimate_partition_backward(machine, v, 3, generator).log_z
    assert forward < log_z(machine) - 0.3 < log_z(machine) + 0.3 < backward


@torch.no_grad()
def test_gibbs_sampling_leaves_the_distribution_as_it_is(generator):
    machine, v = machine_of(4, 3, generator), states(4)
    p = torch.softmax(machine.log_p_unnormalised(v), 0)
    drawn = v[torch.multinomial(p, 40_000, replacement=True, generator=generator)]
    after = machine.gibbs(drawn, torch.rand(40_000, 2, 7, generator=generator))
    shares = (after[:, None] == v).all(2).float().mean(0)
    torch.testing.assert_close(shares, p, rtol=0, atol=0.01)


def test_the_loss_has_the_gradient_of_the_likelihood(generator):
    """Where the chains are all states, each as often as the machine draws it."""
    machine, v = machine_of(4, 3, generator), states(4)
    p = torch.softmax(machine.log_p_unnormalised(v), 0).detach()
    machine.chains = v[torch.multinomial(p, 40_000, replacement=True, generator=generator)]
    seen = v[[3, 9]].repeat(20_000, 1)
    loss, drawn, chains = machine.contrast(seen, torch.rand(40_000, 1, 7, generator=generator))
    found = torch.autograd.grad(loss.mean(), list(machine.parameters()))
    exact = torch.logsumexp(machine.log_p_unnormalised(v), 0) - machine.log_p_unnormalised(seen).mean()
    for ours, theirs in zip(found, torch.autograd.grad(exact, list(machine.parameters())), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0.01)
    assert torch.equal(chains, drawn)


def test_chains_take_turns(generator):
    machine = machine_of(4, 3, generator)
    before = machine.chains.clone()
    _, drawn, chains = machine.contrast(torch.zeros(2, 4), torch.rand(2, 1, 7, generator=generator))
    assert torch.equal(chains, torch.cat([before[2:], drawn]))
    _, drawn, chains = machine.contrast(torch.zeros(12, 4), torch.rand(12, 1, 7, generator=generator))
    assert torch.equal(chains, drawn[-5:])


@torch.no_grad()
def test_the_pseudo_likelihood_by_hand(generator):
    machine, v = machine_of(4, 3, generator), states(4)
    log_p = machine.log_p_unnormalised(v)
    uniform = ((torch.arange(4) + 0.5) / 4).repeat(len(v), 1)
    flipped = torch.tensor([[index ^ (8 >> unit) for unit in range(4)] for index in range(16)])
    expected = torch.nn.functional.logsigmoid(log_p[:, None] - log_p[flipped]).sum(1)
    torch.testing.assert_close(machine.pseudo_likelihood(v, uniform), expected)


@torch.no_grad()
def test_the_bound_of_a_deep_belief_network_is_below_its_likelihood_and_near(generator):
    model = registry.build("models", "dbn", {"hidden": 4, "top": 3}, SHAPE)
    randomise(model, generator)
    x, h = states(6), states(4)
    log_p_h = model.machine.log_p_unnormalised(h) - log_z(model.machine)
    log_p_x_given_h = -torch.nn.functional.binary_cross_entropy_with_logits(
        model.lower.down(h)[None].expand(64, -1, -1), x[:, None].expand(-1, 16, -1), reduction="none"
    ).sum(2)
    exact = torch.logsumexp(log_p_x_given_h + log_p_h, 1).double()
    assert exact.exp().sum() == pytest.approx(1, abs=1e-5)
    bound = model.log_p_unnormalised(x.unflatten(1, SHAPE), generator) - log_z(model.machine)
    assert float(bound.mean()) < float(exact.mean())
    assert float(bound.mean()) == pytest.approx(float(exact.mean()), abs=0.5)


@torch.no_grad()
def test_the_bound_of_a_deep_boltzmann_machine_is_below_its_likelihood(generator):
    model = registry.build("models", "dbm", {"hidden": 4, "top": 3}, SHAPE)
    randomise(model, generator)
    x, g = states(6), states(3)
    pairs = torch.cat([x.repeat_interleave(8, 0), g.repeat(64, 1)], 1)
    exact = torch.logsumexp(model.machine.log_p_unnormalised(pairs).unflatten(0, (64, 8)), 1) - log_z(model.machine)
    assert exact.exp().sum() == pytest.approx(1, abs=1e-5)
    bound = model.log_p_unnormalised(x.unflatten(1, SHAPE), generator) - log_z(model.machine)
    assert (bound < exact + 1e-4).all()
    assert float(bound.mean()) > float(exact.mean()) - 1


def test_the_likelihood_of_a_machine_is_exact_but_for_its_partition_function(trained, digits):
    config = {"hidden": 20, "chains": 70}
    model, _ = trained("rbm", config)
    found = evaluate_likelihood(model, Batches(digits[500:]), samples=1, seed=0, temperatures=1_000)
    x = model.observation.observe(Batches(digits[500:])[:], torch.Generator().manual_seed(0))
    with torch.no_grad():
        log_p = model.log_p_unnormalised(x, torch.Generator()) - log_z(model.machine)
    assert found.kind == "AIS"
    assert found.nats == pytest.approx(-float(log_p.mean()), abs=0.1)
    assert found.standard_error > 0.99 * float(log_p.std()) / 10


def test_bounds_say_that_they_are(digits):
    found = evaluate_likelihood(build("dbm", {"hidden": 5, "top": 4}), Batches(digits[:20]), 1, 0, temperatures=10)
    assert found.kind == "bound (AIS)"


def test_no_chain_starts_at_an_image(digits, generator):
    model = build("rbm", {"hidden": 5, "chains": 50})
    images = Batches(digits)
    model.fit(images, images, generator)
    x = model.observation.observe(images[:], generator).flatten(1)
    assert torch.cdist(model.machine.chains, x, p=1).min() > 3


def test_extreme_noise_draws_too():
    model = build("rbm", {"hidden": 5, "chains": 50, "sampling_steps": 2})
    for value in (-50.0, 50.0):
        with torch.no_grad():
            assert model.generate(torch.full((2, model.noise_width), value)).isfinite().all()
