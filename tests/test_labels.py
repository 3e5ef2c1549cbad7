"""Conditional models and codes of any shape in an application."""

import numpy as np
import pytest
import tiny
from tiny import CLASSES, CODE_SHAPE, COUNTS, LATENT, SHAPE

from latentmill import Decoder
from latentmill.errors import InputError
from latentmill.runtime import graph as graphs
from latentmill.runtime.labels import DrawnLabels, label_indices
from latentmill.runtime.noise import NoiseStream

WET = "dog, wet"
EACH = ["cat", WET, "rare", "cat", "\N{SNOWMAN}"]
NAMED = "one of cat, 'dog, wet', \N{SNOWMAN}, rare"


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    return Decoder(tiny.write_conditional(tmp_path_factory.mktemp("conditional") / "tiny"))


@pytest.fixture(scope="module")
def shaped(tmp_path_factory):
    return Decoder(tiny.write_shaped(tmp_path_factory.mktemp("shaped") / "tiny"))


@pytest.fixture
def z():
    return np.random.default_rng(0).standard_normal((5, LATENT), dtype=np.float32)


# What a label does


def test_a_conditional_model_has_classes(decoder):
    assert decoder.classes == tuple(CLASSES)
    assert decoder.code_shape == (LATENT,)


@pytest.mark.parametrize("label", [WET, EACH, tuple(EACH), np.array(EACH)], ids=["one", "list", "tuple", "array"])
def test_a_label_is_one_for_all_or_one_for_each(decoder, z, label):
    labels = [WET] * 5 if label is WET else EACH
    np.testing.assert_allclose(decoder.decode(z, label), tiny.images_of(z, labels), atol=1e-6)
    np.testing.assert_allclose(decoder.generate(z, label), tiny.images_of(z, labels), atol=1e-6)
    images = tiny.images_of(z).astype(np.float32)
    mean, _ = decoder.encode(images, label)
    np.testing.assert_allclose(mean, tiny.codes_of(images, labels), atol=1e-4)
    np.testing.assert_allclose(decoder.reconstruct(images, label), tiny.images_of(mean, labels), atol=1e-5)
    noise = NoiseStream(LATENT, seed=3).rows(5)
    np.testing.assert_allclose(decoder.sample(5, seed=3, label=label), tiny.images_of(noise, labels), atol=1e-6)
    np.testing.assert_array_equal(decoder.draw(5, seed=3, label=label), noise)
    path = np.linspace(z[0], z[1], 5)
    np.testing.assert_allclose(decoder.interpolate(z[0], z[1], 5, label=label), tiny.images_of(path, labels), atol=1e-6)
    along = z[0] + np.linspace(-1.5, 1.5, 5)[:, None] * np.array([1, 0, -1])
    found = decoder.traverse(z[0], "toward 7", 5, label=label)
    np.testing.assert_allclose(found, tiny.images_of(along, labels), atol=1e-6)


def test_images_at_the_ends_of_a_path_are_encoded_with_the_labels_there(decoder, z):
    images = tiny.images_of(z).astype(np.float32)
    path = decoder.interpolate(images[0], images[1], steps=2, label=["cat", WET])
    np.testing.assert_allclose(path, decoder.reconstruct(images[:2], ["cat", WET]), atol=1e-5)


# Labels that are drawn


def test_without_a_label_images_are_those_of_drawn_labels(decoder):
    labels, codes = decoder.labels(9, seed=3), decoder.draw(9, seed=3)
    images = decoder.sample(9, seed=3)
    np.testing.assert_allclose(images, tiny.images_of(codes, labels), atol=1e-6)
    np.testing.assert_allclose(images, decoder.generate(decoder.noise(9, seed=3), labels), atol=1e-6)
    np.testing.assert_allclose(decoder.decode(codes, labels), images, atol=1e-6)
    assert len(set(labels)) > 1


@pytest.mark.parametrize("batch", [1, 3, 256])
@pytest.mark.parametrize("label", [None, EACH * 2], ids=["drawn", "given"])
def test_fewer_images_are_the_first_of_more_whatever_the_batch(decoder, monkeypatch, batch, label):
    many, labels = decoder.sample(10, seed=0, label=label), decoder.labels(10, seed=0)
    monkeypatch.setattr(graphs, "BATCH", batch)
    parts = list(decoder.stream(10, batch=4, seed=0, label=label))
    assert [len(part) for part in parts] == [4, 4, 2]
    np.testing.assert_allclose(np.concatenate(parts), many, atol=1e-6)
    for count in (1, 3, 7):
        given = label and label[:count]
        np.testing.assert_allclose(decoder.sample(count, seed=0, label=given), many[:count], atol=1e-6)
        assert decoder.labels(count, seed=0) == labels[:count]


@pytest.mark.parametrize("label", [None, WET])
def test_a_stream_has_no_bound(decoder, label):
    assert next(decoder.stream(10**10, batch=2, seed=0, label=label)).shape == (2, *SHAPE)


def test_labels_are_drawn_by_their_frequency_and_one_that_was_never_seen_is_not():
    drawn = DrawnLabels(COUNTS, seed=1).rows(100_000)
    shares, frequency = np.bincount(drawn, minlength=4) / len(drawn), np.array(COUNTS) / sum(COUNTS)
    np.testing.assert_allclose(shares, frequency, atol=4 * np.sqrt(0.25 / len(drawn)))
    assert (drawn.dtype, drawn.max()) == (np.int64, 2)


def test_labels_of_a_seed_are_the_same_for_ever():
    """So that a seed draws the same image with another version, and in a browser."""
    assert DrawnLabels([1] * 10, seed=0).rows(12).tolist() == [0, 2, 7, 5, 1, 8, 1, 1, 1, 9, 0, 1]
    assert DrawnLabels([3, 0, 5], seed=2**53 - 1).rows(12).tolist() == [2, 2, 2, 0, 2, 2, 2, 0, 2, 0, 2, 2]


def test_labels_do_not_depend_on_the_noise(decoder):
    noise = NoiseStream(1, seed=7).rows(5_000)[:, 0]
    for share in (DrawnLabels([1, 1], seed=7).rows(5_000), DrawnLabels([1] * 4, seed=7).rows(5_000)):
        assert abs(np.corrcoef(noise, share)[0, 1]) < 0.05


def test_counts_near_the_limit_are_exact():
    assert set(DrawnLabels([2**32 - 2, 1], seed=0).rows(1_000)) == {0}
    assert 400 < DrawnLabels([2**31 - 1, 2**31], seed=0).rows(1_000).sum() < 600


def test_a_model_that_is_not_conditional_has_no_labels(tmp_path):
    plain = Decoder(tiny.write(tmp_path / "plain"))
    assert (plain.classes, plain.labels(3, seed=0)) == ((), None)
    with pytest.raises(InputError, match="a label must be left out, because the model has no classes, but got 'cat'"):
        plain.sample(3, seed=0, label="cat")


# What is refused


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d, z: d.sample(2, seed=0, label="bird"), f"a label must be {NAMED}, but got 'bird'"),
        (lambda d, z: d.stream(2, 1, seed=0, label=["cat", "a\nb"]), f"a label must be {NAMED}, but got 'a\\nb'"),
        (lambda d, z: d.draw(2, seed=0, label=1), f"a label must be {NAMED}, but got '1'"),
        (lambda d, z: d.decode(z, label=np.array([0, 1, 2, 0, 1])), f"a label must be {NAMED}, but got '0'"),
        (lambda d, z: d.generate(z), f"a label must be {NAMED}, but none is given"),
        (lambda d, z: d.decode(z), f"a label must be {NAMED}, but none is given"),
        (lambda d, z: d.encode(tiny.images_of(z)), f"a label must be {NAMED}, but none is given"),
        (lambda d, z: d.reconstruct(tiny.images_of(z)), f"a label must be {NAMED}, but none is given"),
        (lambda d, z: d.interpolate(z[0], z[1]), f"a label must be {NAMED}, but none is given"),
        (lambda d, z: d.traverse(z[0], 0), f"a label must be {NAMED}, but none is given"),
        (
            lambda d, z: d.decode(z, label=["cat", WET]),
            f"a label must be {NAMED}, or a list with one for each of 5 rows, but got 2",
        ),
        (
            lambda d, z: d.interpolate(tiny.images_of(z)[0], z[1], label=[]),
            f"a label must be {NAMED}, or a list with one for each of 1 rows, but got 0",
        ),
        (lambda d, z: d.labels(0, seed=0), "n must be at least 1, but got 0"),
        (lambda d, z: d.labels(1, seed=-1), "seed must be at least 0, but got -1"),
    ],
)
def test_a_wrong_label_is_an_error_of_one_line_that_names_the_classes(decoder, z, call, message):
    with pytest.raises(InputError) as error:
        call(decoder, z)
    assert str(error.value) == message


def test_many_classes_are_not_all_named():
    with pytest.raises(InputError, match=r"a label must be one of 0, 1, .*, 11, 988 more, but got 'bird'"):
        label_indices(tuple(map(str, range(1000))), "bird", 1)


@pytest.mark.parametrize(
    "label",
    [
        3,
        [],
        {"classes": ["cat"]},
        {"classes": ["cat"], "counts": [1, 2]},
        {"classes": [1], "counts": [1]},
        {"classes": ["cat", "cat"], "counts": [1, 1]},
        {"classes": ["cat"], "counts": [0]},
        {"classes": [], "counts": []},
        {"classes": ["cat", "dog"], "counts": [-1, 2]},
        {"classes": ["cat"], "counts": [2**32]},
        {"classes": [["cat"]], "counts": [1]},
    ],
    ids=str,
)
def test_a_card_whose_label_is_none_is_refused(tmp_path, label):
    with pytest.raises(InputError, match=r"card.json must (name|have different names as) label.classes"):
        Decoder(tiny.write(tmp_path / "a", tiny.CONDITIONAL | {"label": label}))


@pytest.mark.parametrize(
    ("card", "graph", "message"),
    [
        (
            tiny.CONDITIONAL,
            tiny.decoder(),
            r"must map tensor\(float\) z \(batch, 3\), tensor\(int64\) label \(batch\) to .*, but maps "
            r"tensor\(float\) z \(batch, 3\) to",
        ),
        (tiny.CARD, tiny.decoder(labelled=True), r"must map tensor\(float\) z \(batch, 3\) to .*, but maps .* label"),
    ],
    ids=["no label", "a label"],
)
def test_a_card_that_lies_about_the_label_is_found_out(tmp_path, z, card, graph, message):
    with pytest.raises(InputError, match=message):
        Decoder(tiny.write(tmp_path / "a", card, decoder=graph)).decode(z, "cat" if "label" in card else None)


@pytest.mark.parametrize("format", ["fp16", "int8"])
def test_decoder_formats_take_the_label_too(tmp_path, z, format):
    folder = tiny.write_conditional(tmp_path / "a", **{f"decoder.{format}": tiny.decoder(labelled=True)})
    np.testing.assert_allclose(Decoder(folder, format=format).decode(z, EACH), tiny.images_of(z, EACH), atol=1e-6)


# Codes of any shape


def test_codes_have_the_shape_that_the_card_says(shaped):
    assert (shaped.code_shape, shaped.latent) == (CODE_SHAPE, 8)
    z = shaped.draw(5, seed=2)
    assert z.shape == (5, *CODE_SHAPE)
    np.testing.assert_allclose(shaped.decode(z), shaped.sample(5, seed=2), atol=1e-6)
    images = shaped.decode(z)
    np.testing.assert_allclose(images, tiny.images_of(z), atol=1e-6)
    mean, log_variance = shaped.encode(images)
    np.testing.assert_allclose(mean.reshape(5, 8), tiny.codes_of(images, latent=8), atol=1e-4)
    assert log_variance.shape == (5, *CODE_SHAPE)


@pytest.mark.parametrize("path", ["linear", "slerp"])
def test_paths_between_such_codes_are_those_of_vectors(shaped, path):
    a, b = shaped.draw(2, seed=2)
    found = shaped.interpolate(a, b, steps=5, path=path)
    assert found.shape == (5, *SHAPE)
    np.testing.assert_allclose(found[[0, -1]], shaped.decode(np.stack([a, b])), atol=1e-6)
    middle = (a + b) / 2
    if path == "slerp":
        angle = np.arccos((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))
        middle = middle / np.cos(angle / 2)
    np.testing.assert_allclose(found[2], tiny.images_of(middle[None])[0], atol=1e-5)


@pytest.mark.parametrize("direction", ["toward 7", 5, np.arange(8.0), np.arange(8.0).reshape(CODE_SHAPE)], ids=str)
def test_directions_in_such_codes_are_flat_or_of_their_shape(shaped, direction):
    (z,) = shaped.draw(1, seed=2)
    vector = np.eye(8)[5] if isinstance(direction, int) else direction
    vector = np.array(tiny.SHAPED["directions"][0]["vector"]) if isinstance(direction, str) else vector
    expected = z + vector.reshape(CODE_SHAPE)
    found = shaped.traverse(z, direction, steps=2, reach=(0, 1))[1]
    np.testing.assert_allclose(found, tiny.images_of(expected[None])[0], atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: d.decode(np.zeros((2, 8))), r"z must have the shape \(N, 2, 2, 2\) with N at least 1, but got"),
        (lambda d: d.interpolate(np.zeros(8), np.zeros(8)), r"start must be a code \(2, 2, 2\) or an image"),
        (lambda d: d.traverse(np.zeros(CODE_SHAPE), 8), "a direction's dimension must be from 0 to 7, but got 8"),
        (lambda d: d.traverse(np.zeros(CODE_SHAPE), np.ones(3)), r"direction must have the shape \(N, 8\)"),
    ],
)
def test_a_code_of_another_shape_is_an_error(shaped, call, message):
    with pytest.raises(InputError, match=message):
        call(shaped)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ([2, 2, 3], r"a code_shape of 8 values, as latent says, but names \[2, 2, 3\]"),
        ([], "a code_shape of 8 values"),
        (None, "must name code_shape as whole numbers"),
        ([2, "4"], "must name code_shape as whole numbers"),
    ],
    ids=str,
)
def test_a_card_whose_code_shape_does_not_fit_is_refused(tmp_path, shape, message):
    with pytest.raises(InputError, match=message):
        Decoder(tiny.write(tmp_path / "a", tiny.SHAPED | {"code_shape": shape}))
