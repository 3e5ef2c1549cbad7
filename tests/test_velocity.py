"""The velocity of a flow over codes that are images, by convolutions."""

import numpy as np
import onnxruntime
import pytest
import torch
from pairs import fitted

from latentmill import registry
from latentmill.config import TrainingConfig
from latentmill.errors import InputError
from latentmill.export.graphs import Graph, export
from latentmill.networks.velocity import Velocity

SHAPE = (2, 4, 4)
SMALL = {"network": "conv", "channels": 16, "depth": 2, "dropout": 0.0, "steps": 6}


@pytest.fixture(scope="module")
def velocity() -> Velocity:
    torch.manual_seed(0)
    return Velocity(SHAPE, hidden=8, depth=1, labels=3).eval()


def test_every_place_depends_on_every_other(velocity):
    z = torch.randn(1, 32, requires_grad=True)
    velocity(z, torch.tensor([0.5]), torch.tensor([1])).unflatten(1, SHAPE)[0, :, 0, 0].sum().backward()
    assert z.grad is not None
    assert (z.grad.unflatten(1, SHAPE)[0].abs().sum(0) > 0).all()


def test_a_channel_is_dropped_at_all_places(velocity):
    """Without any channel the blocks add only their biases, and neither time nor label is seen."""
    z, nothing = torch.randn(3, 32), torch.zeros(3, 1, 8)
    early, late = (
        velocity(z, torch.full((3,), time), torch.full((3,), label), nothing) for time, label in ((0.1, 0), (0.9, 2))
    )
    assert torch.equal(early, late)
    assert not torch.equal(early, velocity(z, torch.full((3,), 0.1), torch.zeros(3, dtype=torch.long)))


def stripes(count: int) -> np.ndarray:
    """Codes (count, 2, 4, 4) that are positive on either the even or the odd rows, and negative on the others."""
    random = np.random.default_rng(0)
    signs = random.choice([-1.0, 1.0], (count, 1, 1, 1)) * np.where(np.arange(4) % 2, -1.0, 1.0)[None, None, :, None]
    return (signs + 0.1 * random.standard_normal((count, *SHAPE))).astype(np.float32)


def test_it_learns_what_places_have_in_common():
    training = TrainingConfig(epochs=15, batch_size=100, learning_rate=3e-3, schedule="one-cycle", keep="last")
    made = fitted("flow", stripes(1_500), stripes(200), training, **SMALL)
    with torch.no_grad():
        rows = made.generate(torch.randn(300, 32, generator=torch.Generator().manual_seed(1))).sign().mean((1, 3))
    assert ((rows[:, :2].abs() > 0.9).all(1) & (rows[:, 0] == -rows[:, 1])).float().mean() > 0.9
    assert 0.3 < float((rows[:, 0] > 0).float().mean()) < 0.7, "both kinds are drawn"


@pytest.mark.slow
def test_its_graph_draws_what_torch_draws(tmp_path):
    made = fitted("flow", stripes(100), stripes(20), TrainingConfig(epochs=1), **SMALL)
    graph = Graph("generator", lambda noise: (made.generate(noise),), made, {"noise": (32,)}, ("z",))
    export(graph, tmp_path / "flow.onnx", {})
    (found,) = onnxruntime.InferenceSession(tmp_path / "flow.onnx").run(None, graph.feeds(5, seed=0))
    np.testing.assert_allclose(found, made.generate(*graph.example(5, seed=0)).detach(), atol=1e-5)


def test_codes_that_are_vectors_have_no_convolutions():
    rule = "a flow's network must be mlp for codes that are vectors, but got conv"
    with pytest.raises(InputError, match=rule):
        registry.build("priors", "flow", {"network": "conv"}, (5,))
