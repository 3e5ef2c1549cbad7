"""The distance between images in the layers of an encoder."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from latentmill import registry
from latentmill.config import TrainingConfig
from latentmill.data.batches import Batches
from latentmill.features import perceptual
from latentmill.features.perceptual import PerceptualDistance
from latentmill.training.loop import Setup, train


@pytest.fixture(scope="module")
def distance(digits):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(perceptual, "STEPS", 200)
        yield fitted(digits)


def fitted(images):
    made = PerceptualDistance(images.shape[1:])
    made.fit(Batches(images), torch.Generator().manual_seed(0))
    return made


def test_it_is_zero_between_equal_images_and_grows_with_what_is_added(distance, digits, generator):
    x = Batches(digits)[:50]
    noise = torch.randn(x.shape, generator=generator)
    found = [distance(x, (x + scale * noise).clamp(0, 1)).mean() for scale in (0, 0.05, 0.2)]
    assert found[0] == 0 < found[1] < found[2]


def test_each_layer_weighs_by_its_size(distance, digits):
    """Against images of which nothing is recognised, a layer is off by about its own size."""
    x = Batches(digits)[:200]
    assert 0.5 < distance(x, x.flip(0)).mean() / len(distance.sizes) < 2


def test_it_sees_blur_better_than_a_squared_error_does(distance, digits):
    """Of blur and a brighter image with the same squared error, blur is farther."""
    x = Batches(digits)[:200]
    blurred = torch.from_numpy(gaussian_filter(x.numpy(), (0, 0, 0.8, 0.8)))
    error = (blurred - x).square().mean()
    darker = x * (1 - (error / x.square().mean()).sqrt())
    torch.testing.assert_close((darker - x).square().mean(), error)
    assert distance(x, blurred).mean() > 1.5 * distance(x, darker).mean()


def test_nothing_of_it_learns_or_follows_the_batches(distance, digits):
    assert not list(distance.parameters())
    x, before = Batches(digits)[:20], {name: value.clone() for name, value in distance.state_dict().items()}
    distance.train()
    y = (x + 0.1).requires_grad_()
    distance(x, y).sum().backward()
    assert y.grad.abs().sum() > 0
    assert all(torch.equal(value, before[name]) for name, value in distance.state_dict().items())


def test_the_same_generator_gives_the_same_distance(distance, digits):
    x, y = Batches(digits)[:10], Batches(digits)[10:20]
    assert torch.equal(fitted(digits)(x, y), distance(x, y))


def test_a_model_trained_with_it_reconstructs_nearer_by_it(distance, digits):
    images, val = Batches(digits[:500]), Batches(digits[500:])
    errors = []
    for weight in (0.0, 3.0):
        torch.manual_seed(0)
        config = {"latent": 4, "hidden": 50, "observation": "gaussian", "perceptual": weight}
        model = registry.build("models", "vae", config, digits.shape[1:])
        history = train(model, Setup(images, val), TrainingConfig(epochs=30, learning_rate=3e-3), seed=0).history
        assert ("train_perceptual" in history[0]) == (weight > 0)
        with torch.no_grad():
            made = model.decode(model.encode(val[:]))
        errors.append([float(np.mean(distance(val[:], made).numpy())), float((made - val[:]).square().mean())])
    (plain, squared), (sharp, more) = errors
    assert sharp < 0.95 * plain
    assert more > squared, "the price"
