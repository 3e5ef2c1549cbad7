"""Sampling from exported graphs: the library, the files it writes, and the command, without torch."""

import errno
import subprocess
import sys

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from latentmill.cli import main
from latentmill.errors import InputError
from latentmill.runtime import images as image_files
from latentmill.runtime import sampler
from latentmill.runtime.images import GAP, SMALLEST_CELL, check_suffix, grid, save
from latentmill.runtime.sampler import Decoder, Sampler

WIDTH, SHAPE = 3, (2, 4, 5)  # of the noise; of an image
NOISE = {"name": "noise", "shape": ("batch", WIDTH)}
IMAGE = {"name": "image", "shape": ("batch", *SHAPE)}


def weights() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((WIDTH, np.prod(SHAPE)), dtype=np.float32)


def graph(taken=NOISE, given=IMAGE, metadata=None) -> bytes:
    """sigmoid(input @ weights) as images, in the bytes of an .onnx file."""
    constants = {"weights": weights(), "image_shape": np.array([-1, *SHAPE])}
    nodes = [
        helper.make_node("MatMul", [taken["name"], "weights"], ["rows"]),
        helper.make_node("Sigmoid", ["rows"], ["grey"]),
        helper.make_node("Reshape", ["grey", "image_shape"], [given["name"]]),
    ]
    inputs, outputs = (
        [helper.make_tensor_value_info(value["name"], TensorProto.FLOAT, value["shape"])] for value in (taken, given)
    )
    initialisers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    body = helper.make_graph(nodes, "tiny", inputs, outputs, initialisers)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata or {})
    return model.SerializeToString()


def expected_images(inputs: np.ndarray) -> np.ndarray:
    return (1 / (1 + np.exp(-inputs.astype(np.float64) @ weights()))).reshape(-1, *SHAPE)


@pytest.fixture
def folder(tmp_path):
    """An exported folder with a generator and a decoder."""
    exported = tmp_path / "exports" / "tiny"
    exported.mkdir(parents=True)
    (exported / "generator.onnx").write_bytes(graph(metadata={"variant": "tiny", "noise_width": "3", "digest": "1e5"}))
    (exported / "decoder.onnx").write_bytes(graph(taken=NOISE | {"name": "z"}))
    return exported


@pytest.mark.parametrize("name", ["", "generator.onnx"])
@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["text", "path"])
def test_a_model_is_a_folder_or_a_file(folder, name, kind):
    images = Sampler(kind(folder / name)).sample(5, seed=3)
    noise = np.random.default_rng(3).standard_normal((5, WIDTH), dtype=np.float32)
    assert images.dtype == np.float32
    np.testing.assert_allclose(images, expected_images(noise), atol=1e-6)


def test_metadata_is_the_text_that_was_written(folder):
    assert Sampler(folder).metadata == {"variant": "tiny", "noise_width": "3", "digest": "1e5"}


def test_the_same_seed_gives_the_same_images_and_another_does_not(folder):
    first, again, other = (Sampler(folder).sample(4, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


@pytest.mark.parametrize("batch", [1, 3, 256])
def test_fewer_images_are_the_first_of_more_whatever_the_batch(folder, monkeypatch, batch):
    many = Sampler(folder).sample(10, seed=0)
    monkeypatch.setattr(sampler, "BATCH", batch)
    for count in (1, 3, 7, 10):
        np.testing.assert_allclose(Sampler(folder).sample(count, seed=0), many[:count], atol=1e-6)


def test_no_batch_is_larger_than_the_bound(folder, monkeypatch):
    monkeypatch.setattr(sampler, "BATCH", 4)
    model = Sampler(folder)
    seen, session = [], model.session

    class Counted:
        def run(self, outputs, inputs):
            seen.append(len(inputs["noise"]))
            return session.run(outputs, inputs)

    model.session = Counted()
    assert model.sample(10, seed=0).shape == (10, *SHAPE)
    assert seen == [4, 4, 2]


@pytest.mark.parametrize(
    ("n", "seed", "message"),
    [
        (0, 0, "n must be at least 1, but got 0"),
        (-3, 0, "n must be at least 1, but got -3"),
        (1, -1, "seed must be at least 0, but got -1"),
    ],
)
def test_a_wrong_count_or_seed_is_an_error(folder, n, seed, message):
    with pytest.raises(InputError, match=message):
        Sampler(folder).sample(n, seed)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_codes_of_any_number_type_and_layout_are_decoded(folder, dtype):
    z = np.asfortranarray(np.arange(-6, 6).reshape(4, WIDTH).astype(dtype))
    images = Decoder(folder).decode(z)
    assert images.dtype == np.float32
    np.testing.assert_allclose(images, expected_images(z), atol=1e-6)


@pytest.mark.parametrize("shape", [(WIDTH,), (2, WIDTH + 1), (0, WIDTH), (2, WIDTH, 1)], ids=str)
def test_codes_of_a_wrong_shape_are_an_error(folder, shape):
    with pytest.raises(InputError, match=r"z must have the shape \(N, 3\) with N at least 1, but got \("):
        Decoder(folder).decode(np.zeros(shape, np.float32))


@pytest.mark.parametrize("model", [Sampler, Decoder])
def test_a_path_that_is_not_there_is_an_error(tmp_path, model):
    with pytest.raises(InputError, match=r"an exported folder or an \.onnx file, but there is no .*absent"):
        model(tmp_path / "absent")


def test_a_folder_without_the_graph_is_an_error_that_names_what_it_holds(folder):
    (folder / "generator.onnx").unlink()
    with pytest.raises(InputError, match=r"tiny must hold generator\.onnx, but holds decoder\.onnx$"):
        Sampler(folder)
    (folder / "decoder.onnx").unlink()
    with pytest.raises(InputError, match=r"tiny must hold decoder\.onnx, but holds nothing$"):
        Decoder(folder)


def damaged(kind: str) -> bytes:
    intact = graph()
    return {
        "empty": b"",
        "random": np.random.default_rng(0).bytes(2_000),
        "text": b"<!doctype html><title>404</title>",
        "cut": intact[: len(intact) // 2],
        "end cut": intact[:-1],
        "a broken operator": intact.replace(b"Sigmoid", b"Si\xff\xfeoid"),
        "a broken name": intact.replace(b"noise", b"n\xca\xfese"),
    }[kind]


DAMAGE = ["empty", "random", "text", "cut", "end cut", "a broken operator", "a broken name"]


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_an_error_that_names_it(tmp_path, capfd, kind):
    path = tmp_path / "generator.onnx"
    path.write_bytes(damaged(kind))
    with pytest.raises(InputError, match=rf"{path} must be an intact ONNX file, but onnxruntime says: \S"):
        Sampler(path)
    assert capfd.readouterr() == ("", ""), "onnxruntime's own log would say it again"


def test_every_truncation_is_an_error(tmp_path):
    path, intact = tmp_path / "generator.onnx", graph()
    for length in range(0, len(intact), 11):
        path.write_bytes(intact[:length])
        with pytest.raises(InputError, match="must"):
            Sampler(path)


@pytest.mark.parametrize(
    ("taken", "given"),
    [
        (NOISE | {"name": "z"}, IMAGE),
        (NOISE, IMAGE | {"name": "z"}),
        (NOISE | {"shape": ("batch", "width")}, IMAGE),
        (NOISE | {"shape": (2, WIDTH)}, IMAGE | {"shape": (2, *SHAPE)}),
        (NOISE | {"shape": ("batch", 1, WIDTH)}, IMAGE),
    ],
    ids=["another input", "another output", "a dynamic width", "a fixed batch", "three axes"],
)
def test_another_graph_is_an_error_that_says_what_it_maps(tmp_path, taken, given):
    path = tmp_path / "other.onnx"
    path.write_bytes(graph(taken, given))
    with pytest.raises(InputError, match=rf"{path} must map .*noise .*but maps .*{taken['name']} .*{given['name']} "):
        Sampler(path)


def test_a_graph_that_fails_when_it_runs_is_an_error(tmp_path, capfd):
    path = tmp_path / "generator.onnx"
    wrong = graph(given=IMAGE | {"shape": ("batch", 2, 4, 7)})
    path.write_bytes(wrong.replace(np.array([-1, *SHAPE]).tobytes(), np.array([-1, 2, 4, 7]).tobytes()))
    with pytest.raises(InputError, match=rf"{path} must be a graph that runs, but onnxruntime says: \S"):
        Sampler(path).sample(2, seed=0)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (5, 3, 2), (9, 3, 3), (10, 4, 3)])
def test_a_grid_is_near_square(count, columns, rows):
    cell = SMALLEST_CELL + GAP
    assert grid(np.zeros((count, 1, 8, 8))).shape == (rows * cell + GAP, columns * cell + GAP, 1)


@pytest.mark.parametrize(("size", "scale"), [((8, 8), 7), ((28, 28), 2), ((9, 20), 3), ((56, 3), 1), ((64, 64), 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_shows_each_pixel_as_a_block_in_its_place(size, scale, channels):
    height, width = size
    images = np.random.default_rng(0).random((5, channels, height, width))
    sheet = grid(images, columns=2)
    whites = np.ones(sheet.shape[:2], bool)
    for index, image in enumerate(images):
        top, left = GAP + index // 2 * (height * scale + GAP), GAP + index % 2 * (width * scale + GAP)
        place = slice(top, top + height * scale), slice(left, left + width * scale)
        block = np.kron(image.transpose(1, 2, 0), np.ones((scale, scale, 1)))
        assert np.abs(sheet[place] - block * 255).max() <= 0.5
        whites[place] = False
    assert (sheet[whites] == 255).all(), "the gaps and the empty place are white"
    assert whites.sum() == sheet[..., 0].size - 5 * height * width * scale**2


def test_a_grid_clips_to_black_and_white():
    sheet = grid(np.array([-1.0, 0.0, 1.0, 2.0]).reshape(4, 1, 1, 1), columns=4)
    step = SMALLEST_CELL + GAP
    assert [int(sheet[GAP, GAP + column * step, 0]) for column in range(4)] == [0, 0, 255, 255]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [1, 5])
def test_a_png_holds_the_grid(tmp_path, channels, count):
    images = np.random.default_rng(0).random((count, channels, 8, 8), dtype=np.float32)
    save(tmp_path / "a.png", images, columns=4)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == {1: "L", 3: "RGB"}[channels]
        pixels = np.asarray(picture)
    np.testing.assert_array_equal(pixels.reshape(*pixels.shape[:2], channels), grid(images, columns=4))


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_are_saved_as_float32_without_pickle(tmp_path, suffix, dtype):
    images = np.random.default_rng(0).random((3, *SHAPE)).astype(dtype)
    path = tmp_path / f"a{suffix}"
    save(str(path), images)
    loaded = np.load(path, allow_pickle=False)
    if suffix == ".npz":
        assert loaded.files == ["images"]
        with loaded:
            loaded = loaded["images"]
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded, images.astype(np.float32))


@pytest.mark.parametrize("name", ["a.jpg", "a", "a.png.txt", ".png"])
def test_an_unknown_suffix_is_an_error(tmp_path, name):
    path = tmp_path / name
    for attempt in (check_suffix, lambda path: save(path, np.zeros((1, *SHAPE)))):
        with pytest.raises(InputError, match=r"an output must end in \.png, \.npy, \.npz, but got .*" + name):
            attempt(path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [SHAPE, (0, *SHAPE), (1, 1, 0, 4)], ids=str)
@pytest.mark.parametrize("suffix", image_files.SUFFIXES)
def test_what_is_not_images_is_an_error(tmp_path, shape, suffix):
    with pytest.raises(InputError, match=r"images must have the shape \(N, C, H, W\)"):
        save(tmp_path / f"a{suffix}", np.zeros(shape))
    assert list(tmp_path.iterdir()) == []


def test_too_many_channels_for_a_png_are_an_error_but_fit_an_array(tmp_path):
    images = np.zeros((1, 5, 4, 4), np.float32)
    with pytest.raises(InputError, match="at most 4 channels, but got 5"):
        save(tmp_path / "a.png", images)
    save(tmp_path / "a.npy", images)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]


@pytest.mark.parametrize("place", ["absent/a.png", "file/a.png", "folder.png"])
def test_a_place_that_cannot_be_written_is_an_error_and_leaves_nothing(tmp_path, place):
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=rf"must be a file that can be written, but got '{tmp_path / place}': \w"):
        save(tmp_path / place, np.zeros((1, *SHAPE)))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("failure", "seen"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), InputError),
        (OSError("encoder error"), InputError),  # as pillow raises them, without a number
        (KeyboardInterrupt("stopped"), KeyboardInterrupt),
    ],
    ids=str,
)
@pytest.mark.parametrize("suffix", image_files.SUFFIXES)
def test_a_write_that_fails_leaves_the_old_file_as_it_was(tmp_path, monkeypatch, failure, seen, suffix):
    path = tmp_path / f"a{suffix}"
    save(path, np.zeros((1, 3, 4, 5)))
    before = path.read_bytes()

    def fail_half_way(file, *_):
        file.write(b"half a file")
        raise failure

    monkeypatch.setattr(image_files, "_write", fail_half_way)
    with pytest.raises(seen, match=str(getattr(failure, "strerror", None) or failure)):
        save(path, np.ones((1, 3, 4, 5)))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_command_writes_what_the_sampler_draws(folder, tmp_path, capfd):
    out = tmp_path / "a.npy"
    main(["sample", str(folder), "--n", "6", "--seed", "9", "--out", str(out)])
    np.testing.assert_array_equal(np.load(out), Sampler(folder).sample(6, seed=9))
    assert capfd.readouterr() == (f"{out}: 6 images of 2x4x5 from {folder}, seed 9\n", "")


def test_the_command_has_defaults_for_all_but_the_model(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["sample", str(folder)])
    with Image.open("samples.png") as picture:
        pixels = np.asarray(picture)
    np.testing.assert_array_equal(pixels, grid(Sampler(folder).sample(64, seed=0)))


BAD_INPUT = {
    "n": ["{model}", "--n", "0"],
    "seed": ["{model}", "--seed", "-1"],
    "suffix": ["{model}", "--out", "a.jpg"],
    "no folder": ["{model}", "--out", "absent/a.png"],
    "no model": ["absent"],
    "not exported": ["."],
    **{kind: [f"{kind}.onnx"] for kind in DAMAGE},
}
BAD_USAGE = {
    "no command": [],
    "no model": ["sample"],
    "another command": ["train"],
    "n": ["sample", "{model}", "--n", "many"],
    "an option": ["sample", "{model}", "--batch", "3"],
}


@pytest.fixture
def fail(folder, tmp_path, monkeypatch, capfd):
    """Runs the command, which must fail and leave no file; returns its exit status and the lines on stderr."""
    work = tmp_path / "work"
    work.mkdir()
    for kind in DAMAGE:
        (work / f"{kind}.onnx").write_bytes(damaged(kind))
    monkeypatch.chdir(work)

    def fail(arguments):
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(SystemExit) as ending:
            main([argument.format(model=folder) for argument in arguments])
        out, error = capfd.readouterr()
        assert sorted(tmp_path.rglob("*")) == before
        assert out == ""
        return ending.value.code, error.splitlines()

    return fail


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_ends_the_command_with_one_line_and_status_1(fail, case):
    status, lines = fail(["sample", *BAD_INPUT[case]])
    assert status == 1
    assert len(lines) == 1
    assert lines[0].startswith("error: ")


def test_a_wrong_suffix_is_told_before_the_model_is_read(fail):
    assert (
        "an output must end in .png, .npy, .npz, but got 'a.jpg'" in fail(["sample", "absent", "--out", "a.jpg"])[1][0]
    )


@pytest.mark.parametrize("case", BAD_USAGE)
def test_bad_usage_ends_the_command_with_status_2(fail, case):
    status, lines = fail(BAD_USAGE[case])
    assert status == 2
    assert lines[0].startswith("usage: latentmill")
    assert "error: " in lines[-1]


NOT_NEEDED = ("torch", "ray", "onnx", "pydantic", "sklearn", "torchmetrics", "scipy", "matplotlib", "dvc", "faiss")
WITHOUT = f"""
import sys
from importlib.abc import MetaPathFinder

class Blocked(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {NOT_NEEDED}:
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, Blocked())
from latentmill.cli import main
main()
"""


def without_the_pipeline(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, "-W", "error", "-c", WITHOUT, "sample", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_needs_only_the_core_packages(folder, tmp_path):
    done = without_the_pipeline(folder, "--n", 3, "--out", tmp_path / "a.png")
    assert (done.returncode, done.stderr) == (0, "")
    with Image.open(tmp_path / "a.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), grid(Sampler(folder).sample(3, seed=0)))


def test_a_process_that_is_given_a_damaged_model_exits_with_one_line(tmp_path):
    (tmp_path / "generator.onnx").write_bytes(damaged("random"))
    done = without_the_pipeline(tmp_path, "--out", tmp_path / "a.png")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {tmp_path / 'generator.onnx'} must be an intact ONNX file")
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["generator.onnx"]
