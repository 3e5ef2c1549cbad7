"""A conditional model from the writer to the application: the label goes through every graph."""

import numpy as np
import pytest
import torch
from exported import CLASSES, LABELS, export, trained

from latentmill import Decoder
from latentmill.errors import InputError
from latentmill.runtime.noise import NoiseStream

SHAPE, CONFIG = (1, 8, 8), {"latent": 3, "hidden": 20}
FORMATS = ("fp16", "int8", "uint8")
NAMES = [CLASSES[index] for index in (2, 0, 1, 1)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("conditional")
    return export("conditional_vae", CONFIG, SHAPE, folder, tolerances=dict.fromkeys(FORMATS, 255.0))


@pytest.fixture(scope="module")
def decoder(folder):
    return Decoder(folder)


@pytest.fixture(scope="module")
def model():
    """The weights that `export` gives the model."""
    torch.manual_seed(0)
    return trained("models", "conditional_vae", CONFIG, SHAPE).model


def test_its_classes_are_those_of_the_data(decoder):
    counts = [int((index == LABELS).sum()) for index in range(len(CLASSES))]
    assert decoder.card["label"] == {"classes": CLASSES, "counts": counts}
    assert (decoder.classes, decoder.code_shape) == (tuple(CLASSES), (3,))


@torch.no_grad()
def test_it_computes_what_torch_does_with_the_same_labels(decoder, model):
    z, labels = decoder.draw(4, seed=1), torch.tensor([CLASSES.index(name) for name in NAMES])
    images = decoder.decode(z, NAMES)
    np.testing.assert_allclose(images, model.decode(torch.from_numpy(z), labels), atol=1e-5)
    np.testing.assert_allclose(
        decoder.encode(images, NAMES)[0], model.encode(torch.from_numpy(images), labels), atol=1e-4
    )
    np.testing.assert_allclose(decoder.sample(4, seed=1, label=NAMES), images, atol=1e-5)
    assert np.abs(images - decoder.decode(z, CLASSES[0]))[:1].max() > 1e-3, "labels matter"


def test_labels_that_are_drawn_are_those_of_the_images(decoder):
    images, labels = decoder.sample(9, seed=2), decoder.labels(9, seed=2)
    np.testing.assert_allclose(decoder.decode(decoder.draw(9, seed=2), labels), images, atol=1e-5)


def test_labels_are_drawn_without_noise(decoder, monkeypatch):
    labels = decoder.labels(9, seed=2)
    monkeypatch.setattr(NoiseStream, "rows", None)
    assert decoder.labels(9, seed=2) == labels
    for n, seed, message in ((0, 2, "n must be at least 1, but got 0"), (9, -1, "seed must be at least 0, but got -1")):
        with pytest.raises(InputError, match=message):
            decoder.labels(n, seed)


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_of_the_decoder_takes_the_label(folder, decoder, format):
    z = decoder.draw(4, seed=1)
    found = Decoder(folder, format=format).decode(z, NAMES) / (255 if format == "uint8" else 1)
    assert np.abs(found - decoder.decode(z, NAMES)).mean() < 0.1  # int8 was calibrated on other codes
