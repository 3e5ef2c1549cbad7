"""Exported folders in an application: what `from latentmill import Decoder` does, without torch."""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import tiny
from onnx import load_from_string
from tiny import IMAGE, LATENT, NOISE, SHAPE, Z

from latentmill import Decoder
from latentmill.errors import InputError
from latentmill.runtime import graph as graphs
from latentmill.runtime.format_1 import upgraded
from latentmill.runtime.noise import NoiseStream


@pytest.fixture
def folder(tmp_path):
    return tiny.write(tmp_path / "exports" / "tiny")


@pytest.fixture
def decoder(folder):
    return Decoder(folder)


@pytest.fixture
def z():
    return np.random.default_rng(0).standard_normal((6, LATENT), dtype=np.float32)


# What it does


@pytest.mark.parametrize("kind", [str, Path])
def test_samples_are_what_the_generator_makes_of_the_noise_of_the_seed(folder, kind):
    decoder = Decoder(kind(folder))
    images = decoder.sample(5, seed=3)
    assert (images.shape, images.dtype) == ((5, *SHAPE), np.float32)
    np.testing.assert_allclose(images, tiny.images_of(NoiseStream(LATENT, seed=3).rows(5)), atol=1e-6)
    assert (decoder.image_shape, decoder.latent, decoder.noise_width) == (SHAPE, LATENT, LATENT)
    assert decoder.card == json.loads((folder / "card.json").read_text())


def test_temperature_and_truncation_are_those_of_the_noise(decoder):
    expected = NoiseStream(LATENT, 1, temperature=0.5, truncation=2.0).rows(4)
    images = decoder.sample(4, seed=1, temperature=0.5, truncation=2.0)
    np.testing.assert_allclose(images, tiny.images_of(expected), atol=1e-6)
    np.testing.assert_array_equal(decoder.draw(4, seed=1, temperature=0.5, truncation=2.0), expected)


def test_noise_of_several_draws_may_be_put_together(decoder):
    """As a service does."""
    seeds, noise = (3, 4), [decoder.noise(5, seed, temperature=0.5) for seed in (3, 4)]
    images = decoder.generate(np.concatenate(noise))
    for part, seed in zip(np.split(images, 2), seeds, strict=True):
        np.testing.assert_allclose(part, decoder.sample(5, seed, temperature=0.5), atol=1e-6)


@pytest.mark.parametrize("batch", [1, 3, 256])
def test_fewer_images_are_the_first_of_more_whatever_the_batch(decoder, monkeypatch, batch):
    many = decoder.sample(10, seed=0)
    monkeypatch.setattr(graphs, "BATCH", batch)
    for count in (1, 3, 7, 10):
        np.testing.assert_allclose(decoder.sample(count, seed=0), many[:count], atol=1e-6)
    parts = list(decoder.stream(10, batch=4, seed=0))
    assert [len(part) for part in parts] == [4, 4, 2]
    np.testing.assert_allclose(np.concatenate(parts), many, atol=1e-6)


def test_codes_are_drawn_decoded_and_encoded(decoder, z):
    np.testing.assert_allclose(decoder.decode(decoder.draw(5, seed=2)), decoder.sample(5, seed=2), atol=1e-6)
    images = decoder.decode(z)
    np.testing.assert_allclose(images, tiny.images_of(z), atol=1e-6)
    mean, log_variance = decoder.encode(images)
    np.testing.assert_allclose(mean, tiny.codes_of(images), atol=1e-4)
    np.testing.assert_allclose(log_variance, mean**2, rtol=1e-5)
    np.testing.assert_allclose(decoder.reconstruct(images), tiny.images_of(mean), atol=1e-6)


def test_images_may_be_bytes(decoder):
    images = np.random.default_rng(0).integers(0, 256, (3, *SHAPE), dtype=np.uint8)
    for dtype in (np.uint8, np.int64, ">i2"):
        np.testing.assert_allclose(decoder.encode(images.astype(dtype))[0], tiny.codes_of(images / 255), atol=1e-4)


def test_images_may_be_black_and_white(decoder):
    images = np.random.default_rng(0).integers(0, 2, (3, *SHAPE)).astype(bool)
    np.testing.assert_allclose(decoder.encode(images)[0], tiny.codes_of(images.astype(float)), atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_codes_of_any_number_type_and_layout_are_decoded(decoder, dtype):
    z = np.asfortranarray(np.arange(-6, 6).reshape(4, LATENT).astype(dtype))
    np.testing.assert_allclose(decoder.decode(z), tiny.images_of(z), atol=1e-6)


def test_ways_lead_from_one_code_or_image_to_another(decoder, z):
    line = decoder.interpolate(z[0], z[1], steps=5)
    np.testing.assert_allclose(line, tiny.images_of(np.linspace(z[0], z[1], 5)), atol=1e-6)
    images = decoder.decode(z)
    ends = decoder.reconstruct(images[:2])
    np.testing.assert_allclose(decoder.interpolate(images[0], images[1], steps=2), ends, atol=1e-5)


def test_a_great_arc_keeps_the_norm_and_the_angle_between_steps(decoder, monkeypatch):
    codes = []
    monkeypatch.setattr(decoder, "decode", lambda z, label: codes.append(z))
    a, b = np.array([3.0, 0, 0]), np.array([0, 3.0, 0])
    decoder.interpolate(a, b, steps=4, path="slerp")
    np.testing.assert_allclose(np.linalg.norm(codes[0], axis=1), 3, rtol=1e-6)
    angles = np.degrees(np.arctan2(codes[0][:, 1], codes[0][:, 0]))
    np.testing.assert_allclose(angles, [0, 30, 60, 90], atol=1e-4)
    for other in (2 * a, -a, 0 * a):  # no arc: the line
        decoder.interpolate(a, other, steps=3, path="slerp")
        np.testing.assert_allclose(codes.pop(), np.linspace(a, other, 3), atol=1e-6)


@pytest.mark.parametrize(
    ("direction", "vector", "reach"),
    [
        ("toward 7", [1, 0, -1], 1.5),
        ("component 1", [0, 2, 0], 3),
        (2, [0, 0, 1], 3),
        (np.argmax([0, 0, 1]), [0, 0, 1], 3),
        (np.ones(3), [1, 1, 1], 3),
    ],
)
def test_a_direction_is_a_name_a_dimension_or_a_vector(decoder, z, direction, vector, reach):
    expected = z[0] + np.linspace(-reach, reach, 7)[:, None] * np.array(vector)
    np.testing.assert_allclose(decoder.traverse(z[0], direction, steps=7), tiny.images_of(expected), atol=1e-6)
    shorter = z[0] + np.linspace(0, 1, 7)[:, None] * np.array(vector)
    np.testing.assert_allclose(
        decoder.traverse(z[0], direction, steps=7, reach=(0, 1)), tiny.images_of(shorter), atol=1e-6
    )


def test_several_threads_share_one_decoder(decoder):
    expected = {seed: decoder.sample(50, seed) for seed in range(8)}
    fresh = Decoder(decoder._folder.path)  # loads its files while several threads ask for them
    with ThreadPoolExecutor(8) as pool:
        for seed, images in zip(expected, pool.map(lambda seed: fresh.sample(50, seed), expected), strict=True):
            np.testing.assert_array_equal(images, expected[seed])


def test_no_run_is_larger_than_the_bound(decoder, monkeypatch):
    monkeypatch.setattr(graphs, "BATCH", 4)
    seen, run = [], graphs.OnnxGraph._run_into
    monkeypatch.setattr(
        graphs.OnnxGraph,
        "_run_into",
        lambda self, given, out: (seen.append(len(given["noise"])), run(self, given, out)),
    )
    decoder.sample(10, seed=0)
    assert seen == [4, 4, 2]


def test_a_model_without_codes_draws_and_says_that_it_cannot_do_more(tmp_path):
    nodes = tiny._decoding("noise")
    card = {"latent": None, "codes": None, "directions": [], "files": {"generator.onnx": {"outputs": ["image"]}}}
    folder = tiny.write(tmp_path / "a", card, generator=tiny.model(nodes, NOISE, (IMAGE,)))
    for name in ("decoder.onnx", "encoder.onnx"):
        (folder / name).unlink()
    decoder = Decoder(tiny.seal(folder))
    assert decoder.sample(3, seed=0).shape == (3, *SHAPE)
    images = np.zeros((1, *SHAPE), np.float32)
    for attempt in (
        lambda: decoder.draw(1, seed=0),
        lambda: decoder.decode(np.zeros((1, 3))),
        lambda: decoder.encode(images),
        lambda: decoder.reconstruct(images),
        lambda: decoder.interpolate(images[0], images[0]),
    ):
        with pytest.raises(InputError, match=r"the model must have codes, but .* makes images from noise alone"):
            attempt()


def test_a_folder_that_cannot_be_written_is_enough(folder):
    folder.chmod(0o500)
    try:
        Decoder(folder).sample(1, seed=0)
    finally:
        folder.chmod(0o700)


# What it refuses


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n must be at least 1, but got 0"),
        ({"n": -3}, "n must be at least 1, but got -3"),
        ({"seed": -1}, "seed must be at least 0, but got -1"),
        ({"n": 10**30}, "n must be at most 1099511627776, but got 1000000000000000000000000000000"),
        ({"temperature": -1}, "temperature must be from 0 to 1000, but got -1"),
        ({"temperature": 1e39}, r"temperature must be from 0 to 1000, but got 1e\+39"),
        ({"temperature": float("nan")}, "temperature must be from 0 to 1000, but got nan"),
        ({"truncation": -1}, "truncation must be above 0"),
        ({"n": 10**8}, "a result must be at most 4 GiB, but image of 100000000 rows takes 14.9: take fewer"),
    ],
    ids=str,
)
def test_a_wrong_draw_is_an_error(decoder, arguments, message):
    with pytest.raises(InputError, match=message):
        decoder.sample(**{"n": 1, "seed": 0} | arguments)


def test_a_stream_has_no_bound_and_says_at_once_what_is_wrong(decoder):
    assert next(decoder.stream(10**10, batch=2, seed=0)).shape == (2, *SHAPE)
    with pytest.raises(InputError, match="batch must be at least 1, but got 0"):
        decoder.stream(10, batch=0, seed=0)


@pytest.mark.parametrize("shape", [(LATENT,), (2, LATENT + 1), (0, LATENT), (2, LATENT, 1)], ids=str)
def test_codes_of_a_wrong_shape_are_an_error(decoder, shape):
    with pytest.raises(InputError, match=r"z must have the shape \(N, 3\) with N at least 1, but got \("):
        decoder.decode(np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, "z must be finite as float32, but got nan"),
        (np.inf, "z must be finite as float32, but got inf"),
        (1e300, r"z must be finite as float32, but got 1e\+300"),
        ("x", "z must be real numbers, but got the type <U1"),
        (1j, "z must be real numbers, but got the type complex128"),
        (None, "z must be real numbers, but got the type object"),
    ],
)
def test_codes_that_are_no_finite_numbers_are_an_error(decoder, value, message):
    with pytest.raises(InputError, match=message):
        decoder.decode(np.full((2, LATENT), value))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros(SHAPE), r"images must have the shape \(N, 2, 4, 5\) with N at least 1, but got \(2, 4, 5\)"),
        (np.zeros((0, *SHAPE)), "with N at least 1"),
        (np.full((1, *SHAPE), 255.0), "images of floats must lie within 0..1, but got values from 255 to 255"),
        (np.full((1, *SHAPE), -0.1), r"images of floats must lie within 0..1, but got values from -0.1 to -0.1"),
        (np.full((1, *SHAPE), np.nan), "images must be finite"),
        (np.full((1, *SHAPE), 256), "images of integers must lie within 0..255, but got values from 256 to 256"),
        (np.ones((1, *SHAPE), np.uint8), "images of integers must have a value above 1"),
    ],
    ids=["one", "none", "bytes as floats", "below", "nan", "above", "ambiguous"],
)
def test_what_is_no_image_is_not_encoded(decoder, images, message):
    with pytest.raises(InputError, match=message):
        decoder.encode(images)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d, z: d.interpolate(z[0], z[1], steps=1), "steps must be at least 2, but got 1"),
        (lambda d, z: d.interpolate(z[0], z[1], path="arc"), "a path must be linear or slerp, but got 'arc'"),
        (lambda d, z: d.interpolate(z[0], z), r"end must be a code \(3,\) or an image \(2, 4, 5\), but has the shape"),
        (
            lambda d, z: d.traverse(z[0], "toward 9"),
            "a direction must be one of toward 7, component 1, but got 'toward 9'",
        ),
        (lambda d, z: d.noise(0, seed=0), "n must be at least 1, but got 0"),
        (lambda d, z: d.generate(np.full((1, 3), np.nan)), "noise must be finite as float32, but got nan"),
        (lambda d, z: d.traverse(z[0], 3), "a direction's dimension must be from 0 to 2, but got 3"),
        (lambda d, z: d.traverse(z[0], True), r"direction must"),
        (lambda d, z: d.traverse(z[0], np.ones(2)), r"direction must have the shape \(N, 3\)"),
        (lambda d, z: Decoder(d._folder.path, threads=0).decode(z), "threads must be from 1 to 1024, but got 0"),
        (lambda d, z: Decoder(d._folder.path, providers=["TPU"]).decode(z), "providers must be among .*, but got TPU"),
    ],
)
def test_a_wrong_argument_is_an_error(decoder, z, call, message):
    with pytest.raises(InputError, match=message):
        call(decoder, z)


def test_what_is_no_export_is_an_error(folder, tmp_path):
    for path in (tmp_path / "absent", folder / "decoder.onnx"):
        with pytest.raises(InputError, match=f"an export must be a folder .*, but there is none at {path}"):
            Decoder(path)
    with pytest.raises(InputError, match=r"must hold manifest.json, but reading it: No such file"):
        Decoder(tmp_path)


@pytest.mark.parametrize("name", ["generator.onnx", "card.json"])
@pytest.mark.parametrize("damage", ["cut", "a bit", "gone"])
def test_a_file_that_is_not_what_the_manifest_says_is_refused(folder, name, damage):
    path = folder / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    {
        "cut": lambda: path.write_bytes(path.read_bytes()[:-1]),
        "a bit": lambda: path.write_bytes(content),
        "gone": path.unlink,
    }[damage]()
    expected = "must hold .*, but reading it" if damage == "gone" else "must have the SHA-256 that the manifest names"
    with pytest.raises(InputError, match=expected):
        Decoder(folder).sample(1, seed=0)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ("{", "manifest.json must be JSON"),
        ("[]", "must be a JSON object"),
        ('{"format": 3, "files": {}}', "must have the format 1 or 2, but has 3"),
        ('{"format": 2}', "must name files with their sha256"),
        ('{"format": 2, "files": {"a": {}}}', "must name files with their sha256"),
        ('{"format": 1, "files": {}}', "must hold card.json, but its manifest names nothing"),
        ('{"format": 1, "files": {"../a": {"sha256": ""}}}', "must name files in its own folder, but has '../a'"),
        ('{"format": 1, "files": {"/etc/passwd": {"sha256": ""}}}', "must name files in its own folder"),
        ('{"format": 1, "files": {"..": {"sha256": ""}}}', "must name files in its own folder"),
    ],
)
def test_a_manifest_that_is_none_is_refused(folder, manifest, message):
    (folder / "manifest.json").write_text(manifest)
    with pytest.raises(InputError, match=message):
        Decoder(folder)


def test_an_export_in_format_2_from_before_there_were_labels_loads(tmp_path):
    folder = tiny.write(tmp_path / "early")
    (folder / "card.json").write_text(json.dumps(tiny.EARLY))
    decoder, now = Decoder(tiny.seal(folder)), Decoder(tiny.write(tmp_path / "now"))
    np.testing.assert_array_equal(decoder.sample(5, seed=3), now.sample(5, seed=3))
    assert decoder.card["files"] == now.card["files"]
    assert (decoder.code_shape, decoder.classes) == ((LATENT,), ())


def test_an_export_in_format_1_loads_and_has_the_words_of_format_2(tmp_path):
    decoder, now = Decoder(tiny.write_format_1(tmp_path / "1")), Decoder(tiny.write(tmp_path / "2"))
    np.testing.assert_array_equal(decoder.sample(5, seed=3), now.sample(5, seed=3))
    assert (decoder.categorical_noise, decoder.card["noise"]) == (1, {"width": LATENT, "categorical": 1})
    assert decoder.card["warning"].startswith(
        "Fails Rule 2: its samples are copies of training images. C2ST accuracy ("
    )
    assert decoder.card["files"] == now.card["files"]
    assert decoder.card["formats"] == {"fp16": {"published": True}}
    assert decoder.card["config"] == {"choices": 1}, "the model's own words"
    samples = decoder.card["metrics"]["samples"]["normal"]
    assert [samples[rule]["status"] for rule in ("rule_1", "rule_2")] == ["inconclusive", "fail"]
    assert samples["rule_2"]["evidence"] == "C2ST accuracy (pixels) 0.9 ± 0.1, fails above 0.6"
    assert samples["hole"] == {"c2st_accuracy": 0.9, "baseline_c2st_accuracy": 0.5}
    assert samples["metrics"]["pixels"]["C2ST accuracy"]["value"] == 0.9
    assert decoder.card["metrics"]["samples"]["mixture"]["rule_1"]["status"] == "pass"


@pytest.mark.parametrize(
    "card",
    [
        tiny.CARD,
        tiny.CONDITIONAL,
        {},
        {"metrics": None, "noise": [], "warning": 3, "files": []},
        {"metrics": {"samples": 1}, "files": {"decoder.onnx": 3}},
    ],
)
def test_other_cards_stay_as_they_are(card):
    assert upgraded(card) == card


def test_a_card_of_many_objects_in_one_another_is_read():
    deep: dict = {}
    for _ in range(500):
        deep = {"status": deep}
    assert upgraded({"metrics": deep}) == {"metrics": deep}


@pytest.mark.parametrize(
    "card",
    [
        {"image_shape": [2, 4]},
        {"image_shape": None},
        {"latent": "3"},
        {"latent": 0},
        {"noise": {"width": 3}},
        {"noise": {"width": 3.0, "categorical": 0}},
    ],
    ids=str,
)
def test_a_card_that_does_not_say_what_is_needed_is_refused(tmp_path, card):
    with pytest.raises(InputError, match=r"card.json must name image_shape"):
        Decoder(tiny.write(tmp_path / "a", card))


@pytest.mark.parametrize(
    ("card", "message"),
    [
        (
            {"image_shape": [2, 4, 6]},
            r"generator.onnx must map .* image \(batch, 2, 4, 6\).*, but maps .* image \(batch, 2, 4, 5\)",
        ),
        ({"latent": 4, "code_shape": [4], "directions": []}, r"must map .* z \(batch, 4\), but maps .* z \(batch, 3\)"),
        ({"noise": {"width": 4, "categorical": 0}}, r"must map tensor\(float\) noise \(batch, 4\) to"),
        (
            {"files": {"generator.onnx": {"outputs": ["label"]}}},
            r"must say that generator.onnx gives .*, but says \['label'\]",
        ),
        ({"files": {}}, r"must say that generator.onnx gives .*, but says None"),
    ],
)
def test_a_card_that_lies_about_a_graph_is_found_out(tmp_path, card, message):
    with pytest.raises(InputError, match=message):
        Decoder(tiny.write(tmp_path / "a", card)).sample(1, seed=0)


def decoding(taken=Z, given=IMAGE, **more) -> bytes:
    return tiny.model(tiny._decoding(taken[0]), taken, (given,), **more)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (decoding(taken=("code", (LATENT,))), r"tensor\(float\) code \(batch, 3\) to"),
        (decoding(batch=2), r"tensor\(float\) z \(2, 3\) to"),
        (decoding(taken=("z", ("width",))), r"z \(batch, batch\) to"),
        (decoding(taken=("z", (1, LATENT))), r"z \(batch, 1, 3\) to"),
    ],
    ids=["another input", "a fixed batch", "any width", "three axes"],
)
def test_another_graph_is_an_error_that_says_what_it_maps(tmp_path, z, content, said):
    with pytest.raises(InputError, match=rf"decoder.onnx must map .*z \(batch, 3\) to .*, but maps .*{said}"):
        Decoder(tiny.write(tmp_path / "a", decoder=content)).decode(z)


def damaged(kind: str) -> bytes:
    intact = tiny.decoder()
    return {
        "empty": b"",
        "random": np.random.default_rng(0).bytes(2_000),
        "text": b"<!doctype html><title>404</title>",
        "cut": intact[: len(intact) // 2],
        "a broken operator": intact.replace(b"Sigmoid", b"Si\xff\xfeoid"),
        "a broken name": intact.replace(b"image", b"im\xca\xfee"),
        "an unknown operator": intact.replace(b"Sigmoid", b"Sigmund"),
    }[kind]


@pytest.mark.parametrize(
    "kind", ["empty", "random", "text", "cut", "a broken operator", "a broken name", "an unknown operator"]
)
def test_a_damaged_file_with_a_digest_that_fits_is_an_error_of_one_line(tmp_path, z, capfd, kind):
    folder = tiny.write(tmp_path / "a", decoder=damaged(kind))
    with pytest.raises(InputError, match=r"decoder\.onnx must "):
        Decoder(folder).decode(z)
    assert capfd.readouterr() == ("", ""), "onnxruntime's own log would say it again"


def test_every_truncation_is_an_error(tmp_path, z):
    folder, intact = tiny.write(tmp_path / "a"), tiny.decoder()
    for length in range(0, len(intact), 7):
        (folder / "decoder.onnx").write_bytes(intact[:length])
        with pytest.raises(InputError, match="must"):
            Decoder(tiny.seal(folder)).decode(z)


def test_a_graph_that_fails_when_it_runs_is_an_error(tmp_path, z, capfd):
    wrong = decoding(given=("image", (2, 4, 7)))
    wrong = wrong.replace(np.array([-1, *SHAPE]).tobytes(), np.array([-1, 2, 4, 7]).tobytes())
    with pytest.raises(InputError, match=r"decoder.onnx must be a graph that runs, but onnxruntime says: \S"):
        Decoder(tiny.write(tmp_path / "a", {"image_shape": [2, 4, 7]}, decoder=wrong)).decode(z)
    assert capfd.readouterr() == ("", "")


def test_a_folder_that_is_replaced_while_it_is_open_is_noticed(folder, decoder, z):
    decoder.sample(1, seed=0)
    shutil.rmtree(folder)
    tiny.write(folder, decoder=decoding(domain="ai.onnx.ml"))
    with pytest.raises(InputError, match=r"decoder.onnx must have the SHA-256 that the manifest names"):
        decoder.decode(z)


NOT_NEEDED = ("torch", "ray", "onnx", "pydantic", "sklearn", "scipy", "matplotlib", "dvc", "faiss", "PIL", "rich")
WITHOUT = f"""
import sys
from importlib.abc import MetaPathFinder

class Blocked(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {NOT_NEEDED}:
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, Blocked())
from latentmill import Decoder
print(Decoder(sys.argv[1]).sample(3, seed=0).shape)
"""


def test_it_needs_numpy_and_onnxruntime_alone(folder):
    command = [sys.executable, "-W", "error", "-c", WITHOUT, folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{(3, *SHAPE)}\n", "")


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_have_one_three_or_four_channels(tmp_path, monkeypatch, channels):
    shape = (channels, 4, 5)
    monkeypatch.setattr(tiny, "SHAPE", shape)
    monkeypatch.setattr(tiny, "IMAGE", ("image", shape))
    decoder = Decoder(tiny.write(tmp_path / "tiny", {"image_shape": list(shape)}))
    codes = decoder.draw(3, seed=0)
    np.testing.assert_allclose(decoder.sample(3, seed=0), tiny.images_of(codes), atol=1e-5)
    images = np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8)
    np.testing.assert_allclose(decoder.encode(images)[0], tiny.codes_of(images / 255), atol=1e-4)


@pytest.mark.parametrize("versions", [{"ir_version": 99}, {"opset": 99}])
def test_a_graph_that_is_newer_than_onnxruntime_names_both(tmp_path, versions):
    proto = load_from_string(tiny.decoder())
    proto.ir_version = versions.get("ir_version", proto.ir_version)
    proto.opset_import[0].version = versions.get("opset", proto.opset_import[0].version)
    folder = tiny.write(tmp_path / "tiny", decoder=proto.SerializeToString())
    told = rf"^onnxruntime must be new enough for .*decoder\.onnx, but is {onnxruntime.__version__}: update it$"
    with pytest.raises(InputError, match=told):
        Decoder(folder).decode(np.zeros((1, tiny.LATENT), np.float32))
