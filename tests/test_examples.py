"""The examples in Node and C++, which must compute what Python does."""

import json
import os
import re
import shutil
import subprocess
from math import prod
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny
from exported import export, seal
from PIL import Image

from latentmill import Decoder
from latentmill.runtime.noise import NoiseStream

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
NODE, CPP = ROOT / "examples/node", ROOT / "examples/cpp"
SHAPE, LATENT = (3, 8, 6), 3  # in colour, and not square
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return export("vae", {"latent": LATENT}, SHAPE, tmp_path_factory.mktemp("vae"))


@pytest.fixture(scope="module")
def decoder(folder):
    return Decoder(folder)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The C++ example, compiled against the headers and the library in ORT_ROOT or where CMake finds them."""
    for tool in ("cmake", "c++"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")
    build = tmp_path_factory.mktemp("build")
    environment = {"ORT_ROOT": str(ROOT / ".venv/onnxruntime"), **os.environ, "CXXFLAGS": "-Werror"}
    found = subprocess.run(["cmake", "-S", CPP, "-B", build], env=environment, text=True, capture_output=True)
    if found.returncode:
        missing = re.search(r"Could .*", found.stderr)
        assert missing, found.stderr
        pytest.skip(f"`make examples` was not run: {missing[0]}")
    subprocess.run(["cmake", "--build", build], check=True, stdout=subprocess.DEVNULL)
    return [build / "sample"]


@pytest.fixture(params=["node", "cpp"])
def command(request):
    """How the example is run."""
    return request.getfixturevalue("compiled") if request.param == "cpp" else node()


def node():
    if not shutil.which("node"):
        pytest.skip("node is not installed")
    if not (NODE / "node_modules/onnxruntime-node").exists():
        pytest.skip("`make examples` has not installed onnxruntime-node")
    return ["node", NODE / "sample.mjs"]


@pytest.fixture
def sample(command, folder, tmp_path):
    """Runs the example: options -> the images (N, C, H, W) that it writes."""

    def sample(*options, export=folder):
        out = tmp_path / "images.bin"
        subprocess.run([*command, export, *map(str, options), "--out", out], check=True)
        return np.fromfile(out, np.float32).reshape(-1, *SHAPE)

    return sample


def test_codes_become_the_images_of_python(sample, decoder, tmp_path):
    z = np.random.default_rng(0).standard_normal((7, LATENT), dtype=np.float32)
    z.tofile(tmp_path / "codes.bin")
    images = sample("--codes", tmp_path / "codes.bin")
    np.testing.assert_allclose(images, decoder.decode(z), atol=TOLERANCE, rtol=0)
    assert np.ptp(images[:, 0, 0, 0]) > 0  # they differ


@pytest.fixture
def conditional(tmp_path):
    return tiny.write_conditional(tmp_path / "conditional")


def test_a_label_is_the_class_of_all_images(command, conditional, tmp_path):
    decoder, label = Decoder(conditional), "dog, wet"
    rows = np.random.default_rng(0).standard_normal((7, tiny.LATENT), dtype=np.float32)
    rows.tofile(tmp_path / "rows.bin")
    given = label if command[0] == "node" else str(tiny.CLASSES.index(label))
    for option in ("--codes", "--noise"):
        options = [option, tmp_path / "rows.bin", "--label", given, "--out", tmp_path / "images.bin"]
        subprocess.run([*command, conditional, *options], check=True)
        images = np.fromfile(tmp_path / "images.bin", np.float32).reshape(-1, *tiny.SHAPE)
        np.testing.assert_allclose(images, decoder.decode(rows, label), atol=TOLERANCE, rtol=0)


def test_guidance_is_that_of_all_images(command, tmp_path):
    """And codes are decoded without a label, which only the generator takes."""
    folder, label = tiny.write_guided(tmp_path / "guided"), "dog, wet"
    decoder, rows = Decoder(folder), np.random.default_rng(0).standard_normal((7, tiny.LATENT), dtype=np.float32)
    rows.tofile(tmp_path / "rows.bin")
    given = label if command[0] == "node" else str(tiny.CLASSES.index(label))
    for options, expected in (
        (["--noise", tmp_path / "rows.bin", "--label", given], decoder.generate(rows, label)),
        (["--noise", tmp_path / "rows.bin", "--label", given, "--guidance", "2.5"], decoder.generate(rows, label, 2.5)),
        (["--codes", tmp_path / "rows.bin"], decoder.decode(rows)),
    ):
        subprocess.run([*command, folder, *options, "--out", tmp_path / "images.bin"], check=True)
        images = np.fromfile(tmp_path / "images.bin", np.float32).reshape(-1, *tiny.SHAPE)
        np.testing.assert_allclose(images, expected, atol=TOLERANCE, rtol=0)


def test_a_label_that_is_no_class_is_said_in_a_line(command, conditional, tmp_path):
    said = failure(command, conditional, "--label", "9", at=tmp_path)
    assert ("--label must be one of cat, dog, wet" if command[0] == "node" else "out of data bounds") in said


def test_codes_of_any_shape_become_the_images_of_python(command, tmp_path):
    folder = tiny.write_shaped(tmp_path / "shaped")
    z = Decoder(folder).draw(7, seed=0)
    z.tofile(tmp_path / "codes.bin")
    out = tmp_path / "images.bin"
    subprocess.run([*command, folder, "--codes", tmp_path / "codes.bin", "--out", out], check=True)
    images = np.fromfile(out, np.float32).reshape(-1, *tiny.SHAPE)
    np.testing.assert_allclose(images, Decoder(folder).decode(z), atol=TOLERANCE, rtol=0)


def test_noise_becomes_the_images_of_python(sample, decoder, tmp_path):
    NoiseStream(decoder.noise_width, seed=5).rows(7).tofile(tmp_path / "noise.bin")
    images = sample("--noise", tmp_path / "noise.bin")
    np.testing.assert_allclose(images, decoder.sample(7, seed=5), atol=TOLERANCE, rtol=0)


def test_a_seed_gives_the_same_images_again(sample):
    images = sample("--n", 9, "--seed", 3)
    assert images.shape == (9, *SHAPE)
    np.testing.assert_array_equal(images, sample("--n", 9, "--seed", 3))
    np.testing.assert_array_equal(images[:4], sample("--n", 4, "--seed", 3))
    assert np.abs(images - sample("--n", 9, "--seed", 4)).max() > 0.01


def test_drawn_noise_is_standard_normal(sample, folder, tmp_path):
    """Read off a generator that gives its noise back as pixels."""
    mirror = mirrored(folder, tmp_path, SHAPE)
    noise = sample("--n", 100, "--seed", 1, export=mirror).reshape(100, -1)
    shares = [(noise < edge).mean() for edge in (-2, -1, 0, 1, 2)]
    np.testing.assert_allclose(shares, [0.0228, 0.1587, 0.5, 0.8413, 0.9772], atol=0.02)
    assert np.abs(np.corrcoef(noise, rowvar=False) - np.eye(prod(SHAPE))).max() < 0.6  # of 100 rows, by chance 0.4


def test_a_sheet_shows_the_images(command, folder, sample, tmp_path):
    images = np.rint(sample("--n", 5) * 255).astype(np.uint8)
    subprocess.run([*command, folder, "--n", "5", "--out", "sheet.ppm"], cwd=tmp_path, check=True)
    sheet = np.asarray(Image.open(tmp_path / "sheet.ppm")).astype(int)
    if command[0] == "node":  # in colour, in rows of three
        expected = np.full((2, 3, *SHAPE), 255)
        expected.reshape(6, *SHAPE)[:5] = images
        expected = expected.transpose(0, 3, 1, 4, 2).reshape(2 * SHAPE[1], 3 * SHAPE[2], 3)
    else:  # grey, one below the other, channel after channel
        expected = images.reshape(-1, SHAPE[2])
    assert np.abs(sheet - expected).max() <= 1  # numpy rounds a half to even


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_sheet_shows_images_of_any_channels_without_alpha(folder, tmp_path, channels):
    command, image = node(), np.random.default_rng(0).random((channels, 5, 4), np.float32)
    image.tofile(tmp_path / "noise.bin")
    mirror = mirrored(folder, tmp_path, image.shape)
    subprocess.run([*command, mirror, "--noise", "noise.bin", "--out", "sheet.ppm"], cwd=tmp_path, check=True)
    sheet = np.asarray(Image.open(tmp_path / "sheet.ppm")).reshape(5, 4, -1)
    seen = image[: 1 if channels < 3 else 3].transpose(1, 2, 0)
    np.testing.assert_allclose(sheet, 255 * seen, atol=0.51, rtol=0)


@pytest.mark.parametrize(("file", "option"), [("generator.onnx", "--seed"), ("decoder.onnx", "--codes")])
def test_a_file_that_the_manifest_does_not_name_is_refused(command, folder, tmp_path, file, option):
    damaged = shutil.copytree(folder, tmp_path / "damaged")
    with (damaged / file).open("ab") as content:
        content.write(b"more")
    np.zeros(LATENT, np.float32).tofile(tmp_path / "1")
    assert f"{file} must have the SHA-256" in failure(command, damaged, option, "1", at=tmp_path)


def test_what_is_wrong_is_said_in_a_line(command, folder, tmp_path):
    np.zeros(LATENT + 1, np.float32).tofile(tmp_path / "codes.bin")
    assert f"rows must be {LATENT} wide" in failure(command, folder, "--codes", "codes.bin", at=tmp_path)
    assert "manifest.json" in failure(command, tmp_path, at=tmp_path)


def test_a_part_of_a_number_is_refused(command, folder, tmp_path):
    (tmp_path / "codes.bin").write_bytes(bytes(4 * LATENT + 3))
    said = failure(command, folder, "--codes", "codes.bin", at=tmp_path)
    assert ("should be a multiple of 4" if command[0] == "node" else "rows must be float32") in said


def test_a_model_without_codes_decodes_none(command, folder, tmp_path):
    drawn = shutil.copytree(folder, tmp_path / "drawn")
    (drawn / "decoder.onnx").unlink()
    seal(drawn)
    assert "decoder.onnx" in failure(command, drawn, "--codes", "codes.bin", at=tmp_path)


def test_an_example_is_short_and_its_lock_names_no_registry():
    for path in (NODE / "sample.mjs", CPP / "sample.cpp"):
        assert len(path.read_text().splitlines()) < 75
    assert "resolved" not in (NODE / "package-lock.json").read_text()


def failure(command, *arguments, at):
    """The line that the example ends with."""
    done = subprocess.run([*command, *arguments], cwd=at, text=True, capture_output=True)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def mirrored(folder, tmp_path, shape):
    """The export with a generator whose images, of this shape, are the noise."""
    mirror = shutil.copytree(folder, tmp_path / "mirror")
    card = json.loads((mirror / "card.json").read_text())
    (mirror / "card.json").write_text(json.dumps(card | {"noise": {"width": prod(shape), "categorical": 0}}))
    (mirror / "generator.onnx").write_bytes(noise_as_image(shape))
    seal(mirror)
    return mirror


def noise_as_image(size):
    """An ONNX file whose images are the noise."""
    noise = onnx.helper.make_tensor_value_info("noise", onnx.TensorProto.FLOAT, ("batch", prod(size)))
    image = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ("batch", *size))
    shape = onnx.numpy_helper.from_array(np.array([-1, *size]), "shape")
    node = onnx.helper.make_node("Reshape", ["noise", "shape"], ["image"])
    graph = onnx.helper.make_graph([node], "mirror", [noise], [image], [shape])
    opset = onnx.helper.make_opsetid("", 17)
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()
