"""Models of which only the prior is conditional, and guided, in an application."""

import numpy as np
import pytest
import tiny
from tiny import CLASSES, LATENT, SHAPE

from latentmill import Decoder
from latentmill.errors import InputError
from latentmill.runtime import graph as graphs
from latentmill.runtime.noise import NoiseStream

WET = "dog, wet"
EACH = ["cat", WET, "rare", "cat", "\N{SNOWMAN}"]
WEIGHTS = [0.0, 1.0, 2.5, 2, 3]


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    return Decoder(tiny.write_guided(tmp_path_factory.mktemp("guided") / "tiny"))


@pytest.fixture
def plain(tmp_path):
    return Decoder(tiny.write_conditional(tmp_path / "plain"))


def expected(count: int, seed: int, labels: list[str], guidance: object) -> np.ndarray:
    return tiny.guided_codes(NoiseStream(LATENT, seed).rows(count), labels, guidance)


def test_it_has_classes_and_says_what_its_graphs_take(decoder, plain):
    assert (decoder.classes, decoder.is_guided, plain.is_guided) == (tuple(CLASSES), True, False)
    assert decoder.inputs["generator.onnx"] == ("noise", "label", "guidance")
    assert (decoder.inputs["decoder.onnx"], plain.inputs["decoder.onnx"]) == (("z",), ("z", "label"))


@pytest.mark.parametrize("label", [WET, EACH], ids=["one", "each"])
@pytest.mark.parametrize("guidance", [1.0, 2, 0.0, WEIGHTS, np.array(WEIGHTS)], ids=str)
def test_samples_are_drawn_by_label_and_guidance(decoder, label, guidance):
    labels = [WET] * 5 if label is WET else EACH
    z = expected(5, 3, labels, guidance)
    how = {"label": label, "guidance": guidance}
    np.testing.assert_allclose(decoder.draw(5, seed=3, **how), z, atol=1e-6)
    np.testing.assert_allclose(decoder.sample(5, seed=3, **how), tiny.images_of(z), atol=1e-6)
    np.testing.assert_allclose(decoder.generate(decoder.noise(5, seed=3), **how), tiny.images_of(z), atol=1e-6)


def test_guidance_is_1_and_labels_are_drawn_by_default(decoder):
    labels = decoder.labels(9, seed=3)
    np.testing.assert_allclose(decoder.draw(9, seed=3), expected(9, 3, labels, 1), atol=1e-6)
    np.testing.assert_array_equal(decoder.sample(9, seed=3), decoder.sample(9, seed=3, label=labels, guidance=1))


@pytest.mark.parametrize("batch", [1, 3, 256])
def test_the_images_of_a_stream_have_each_their_guidance(decoder, monkeypatch, batch):
    many = decoder.sample(10, seed=0, label=EACH * 2, guidance=WEIGHTS * 2)
    monkeypatch.setattr(graphs, "BATCH", batch)
    parts = list(decoder.stream(10, batch=4, seed=0, label=EACH * 2, guidance=WEIGHTS * 2))
    assert [len(part) for part in parts] == [4, 4, 2]
    np.testing.assert_allclose(np.concatenate(parts), many, atol=1e-6)
    assert next(decoder.stream(10**10, batch=2, seed=0, label=WET, guidance=2.0)).shape == (2, *SHAPE)


@pytest.mark.parametrize("label", [None, WET])
def test_a_label_of_codes_may_be_left_out_and_changes_nothing(decoder, label):
    z = decoder.draw(2, seed=0, label=WET)
    images = tiny.images_of(z).astype(np.float32)
    np.testing.assert_allclose(decoder.decode(z, label), images, atol=1e-6)
    mean, _ = decoder.encode(images, label)
    np.testing.assert_allclose(mean, tiny.codes_of(images), atol=1e-4)
    np.testing.assert_allclose(decoder.reconstruct(images, label), tiny.images_of(mean), atol=1e-5)
    np.testing.assert_allclose(decoder.interpolate(z[0], z[1], 2, label=label), images, atol=1e-5)
    assert decoder.traverse(z[0], "toward 7", 3, label=label).shape == (3, *SHAPE)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: d.sample(1, 0, guidance=-1), "guidance must be from 0 to 1000, but got -1"),
        (lambda d: d.stream(1, 1, 0, guidance=np.inf), "guidance must be from 0 to 1000, but got inf"),
        (lambda d: d.draw(1, 0, guidance="2"), "guidance must be from 0 to 1000, but got '2'"),
        (lambda d: d.sample(1, 0, guidance=1e39), "guidance must be from 0 to 1000, but got 1e+39"),
        (
            lambda d: d.sample(2, 0, guidance=[1.0, [2.0, 3.0]]),
            "guidance must be a number or a list of numbers, but got",
        ),
        (
            lambda d: d.sample(3, 0, guidance=[1.0, 2.0]),
            "guidance must be a number, or a list with one for each of 3 rows, but got the shape (2,)",
        ),
        (lambda d: d.generate(d.noise(1, 0)), "but none is given"),
        (lambda d: d.decode(d.draw(1, 0), "bird"), "but got 'bird'"),
    ],
)
def test_a_wrong_argument_is_an_error_of_one_line(decoder, call, message):
    with pytest.raises(InputError) as error:
        call(decoder)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_model_that_is_not_guided_takes_no_guidance_but_1(plain):
    images = plain.sample(2, seed=0, label=WET)
    np.testing.assert_array_equal(plain.sample(2, seed=0, label=WET, guidance=1), images)
    rule = "guidance must be left out, because the model is not guided, but got 2.0"
    for call in (plain.sample, plain.draw):
        with pytest.raises(InputError, match=rule):
            call(2, seed=0, label=WET, guidance=2.0)


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("generator.onnx", ["noise"]),
        ("generator.onnx", ["noise", "guidance"]),
        ("generator.onnx", ["label", "noise"]),
        ("generator.onnx", "noise"),
        ("decoder.onnx", ["z", "guidance"]),
        ("encoder.onnx", ["z"]),
    ],
    ids=str,
)
def test_a_card_whose_inputs_are_none_is_refused(tmp_path, name, inputs):
    files = tiny.GUIDED["files"] | {name: tiny.GUIDED["files"][name] | {"inputs": inputs}}
    with pytest.raises(InputError, match=f"card.json must say that {name} takes "):
        Decoder(tiny.write(tmp_path / "a", tiny.GUIDED | {"files": files}))


def test_a_card_that_lies_about_guidance_is_found_out(tmp_path):
    folder = tiny.write(tmp_path / "a", tiny.GUIDED, generator=tiny.generator(True))
    with pytest.raises(InputError, match=r"must map .*, tensor\(float\) guidance \(batch\) to .*, but maps "):
        Decoder(folder).sample(1, seed=0)
