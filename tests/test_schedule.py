"""The learning rate over the steps of a trial, and averages of its weights."""

import pytest
import torch

from latentmill.config import TrainingConfig
from latentmill.contract import Phase
from latentmill.training.adam import Adam, PackedAdam
from latentmill.training.averages import Averages
from latentmill.training.schedule import factor
from latentmill.training.state import TrainingState

STEPS = 1_000


def factors(**config):
    return [factor(TrainingConfig(**config), step, STEPS) for step in range(STEPS)]


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one-cycle"])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.9])
def test_the_rate_is_never_above_what_is_asked_for_and_reaches_it(schedule, warmup):
    found = factors(schedule=schedule, warmup=warmup)
    assert all(0 < each <= 1 for each in found)
    assert max(found) > 0.999
    top = found.index(max(found))
    assert found[:top] == sorted(found[:top]), "it rises first"
    assert found[top:] == sorted(found[top:], reverse=True), "and falls then"


def test_where_rates_begin_peak_and_end():
    assert set(factors()) == {1.0}
    assert factors(warmup=0.5)[249] == pytest.approx(0.5, abs=0.01)
    cosine = factors(schedule="cosine")
    assert (cosine[0], cosine[500], cosine[-1]) == pytest.approx((1, 0.5, 0), abs=0.01)
    cycle = factors(schedule="one-cycle")
    assert (cycle[0], cycle[300], cycle[-1]) == pytest.approx((1 / 25, 1, 1e-4), abs=1e-4)
    assert factors(schedule="one-cycle", warmup=0.1)[100] == pytest.approx(1)


def test_averages_follow_weights_with_their_decay():
    """By hand, with the decay that rises: 0.1, 2 / 11, and then 0.2."""
    weight = {"w": torch.zeros(2)}
    averages = Averages(weight, {}, 0.2)
    expected = 0.0
    for step, decay in enumerate((0.1, 2 / 11, 0.2, 0.2)):
        weight["w"] += 1
        averages.update(step)
        expected = decay * expected + (1 - decay) * (step + 1)
    assert averages.averages["w"].tolist() == pytest.approx([expected] * 2)
    again = Averages(weight, averages.averages, 0.2)
    assert again.averages["w"].tolist() == averages.averages["w"].tolist()


def test_averages_of_a_pack_have_decays_of_their_own():
    weights = {"w": torch.zeros(2, 3), "b": torch.zeros(2)}
    averages = Averages(weights, {}, torch.tensor([0.0, 0.5]))
    for weight in weights.values():
        weight += 1
    averages.update(1_000)
    assert averages.averages["w"].tolist() == [[1.0] * 3, [0.5] * 3]
    assert averages.member(1)["b"].item() == 0.5


def test_gradients_are_clipped_as_torch_does_each_members_by_its_own_norm():
    generator = torch.Generator().manual_seed(0)
    shapes = {"w": (3, 4, 5), "b": (3, 6), "scalar": (3,)}
    weights = {name: torch.zeros(shape, requires_grad=True) for name, shape in shapes.items()}
    gradients = [torch.randn(shape, generator=generator) for shape in shapes.values()]
    norms = (0.5, None, 100.0)
    members = [TrainingState(None, TrainingConfig(clip=norm), None, None, 100) for norm in norms]
    for member in members:
        member.moments = {
            f"/{name}": {key: torch.zeros(shape[1:]) for key in ("exp_avg", "exp_avg_sq")} | {"step": torch.zeros(())}
            for name, shape in shapes.items()
        }
    packed = PackedAdam(weights, Phase(None), members)
    for weight, gradient in zip(weights.values(), gradients, strict=True):
        weight.grad = gradient.clone()
    packed.clip()
    for row, norm in enumerate(norms):
        alone = [gradient[row].clone() for gradient in gradients]
        own = [torch.zeros_like(gradient, requires_grad=True) for gradient in alone]
        for weight, gradient in zip(own, alone, strict=True):
            weight.grad = gradient
        if norm is not None:
            Adam(dict(enumerate(own)), 0.0, (0.9, 0.999), {}).clip(norm)
        for weight, expected in zip(weights.values(), own, strict=True):
            torch.testing.assert_close(weight.grad[row], expected.grad)
