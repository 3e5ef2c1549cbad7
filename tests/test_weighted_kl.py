"""The weight of the KL in a loss: its rise, its cycles, free bits."""

import pytest
import torch
from conftest import IMAGE_SHAPE

from latentmill import registry
from latentmill.config import TrainingConfig
from latentmill.data.batches import Batches
from latentmill.draws import drawn
from latentmill.networks.weighted_kl import WeightedKl, WeightedKlConfig
from latentmill.training.loop import Setup, train

SMALL = {"latent": 4, "hidden": 30}


def weighted(**settings) -> WeightedKl:
    return WeightedKl(WeightedKlConfig(**settings))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"beta": 4.0}, {0: 4, 100: 4}),
        ({"beta": 4.0, "beta_steps": 10}, {0: 0, 5: 2, 10: 4, 25: 4}),
        ({"beta": 4.0, "beta_steps": 10, "beta_cycles": 2}, {0: 0, 5: 2, 10: 4, 19: 4, 20: 0, 25: 2, 30: 4, 45: 4}),
    ],
)
def test_beta_rises_once_or_in_cycles(settings, expected):
    kl = weighted(**settings)
    for steps, beta in expected.items():
        if kl.rise:
            kl.steps.fill_(steps)
        assert float(kl.weight()) == pytest.approx(beta)


def test_free_bits_are_free_on_the_mean_over_a_batch():
    rows = torch.tensor([[0.1, 3.0], [0.5, 1.0]], requires_grad=True)  # means 0.3 and 2
    kl = weighted(beta=2.0, free_bits=0.4)
    found = kl(rows)
    torch.testing.assert_close(found, torch.tensor([4.8, 4.8]))
    found.mean().backward()
    torch.testing.assert_close(rows.grad, torch.tensor([[0.0, 1.0], [0.0, 1.0]]))


def test_steps_are_counted_in_training(digits):
    model = registry.build("models", "vae", {"latent": 3, "hidden": 20, "beta_steps": 7}, IMAGE_SHAPE)
    examples, val = Batches(digits[:100]), Batches(digits[100:120])
    train(model, Setup(examples, val), TrainingConfig(epochs=2, batch_size=50, keep="last"), 0)
    assert float(model.kl.steps) == 4
    assert float(model.kl.weight()) == pytest.approx(4 / 7)


def test_the_first_step_of_a_rise_is_reconstruction_alone(digits):
    model = registry.build("models", "vae", {"latent": 3, "hidden": 20, "beta_steps": 7}, IMAGE_SHAPE)
    noise = drawn(model.criterion_draws, 5, torch.Generator().manual_seed(0))
    terms = model.loss(Batches(digits[:5]).batch(slice(None)), noise)
    torch.testing.assert_close(terms["loss"], terms["reconstruction"])
    assert (terms["kl"] > 0).all()
    assert float(terms["kl.steps"]) == 1


def test_more_free_bits_leave_more_to_the_codes(digits):
    """Of 4 dimensions with a nat each."""
    found = {}
    for free in (0.0, 1.0):
        torch.manual_seed(0)
        model = registry.build("models", "vae", SMALL | {"beta": 4.0, "free_bits": free}, IMAGE_SHAPE)
        config = TrainingConfig(epochs=15, batch_size=50, keep="last", learning_rate=3e-3)
        train(model, Setup(Batches(digits[:500]), Batches(digits[500:550])), config, 0)
        noise = drawn(model.criterion_draws, 50, torch.Generator().manual_seed(0))
        with torch.no_grad():
            found[free] = float(model.bound(Batches(digits[500:550]).batch(slice(None)), noise)["kl"].mean())
    assert found[0.0] < 2.0 < 2.5 < found[1.0]
