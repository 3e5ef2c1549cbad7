"""Images as files: the grid, a folder of pictures, and arrays; whole or not at all."""

import errno
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from latentmill.errors import InputError
from latentmill.runtime import images as image_files
from latentmill.runtime.images import GAP, SMALLEST_CELL, check_output, grid, save, write

SHAPE = (2, 4, 5)


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (5, 3, 2), (9, 3, 3), (10, 4, 3)])
def test_a_grid_is_near_square(count, columns, rows):
    cell = SMALLEST_CELL + GAP
    assert grid(np.zeros((count, 1, 8, 8))).shape == (rows * cell + GAP, columns * cell + GAP, 1)


@pytest.mark.parametrize(("size", "scale"), [((8, 8), 7), ((28, 28), 2), ((9, 20), 3), ((56, 3), 1), ((64, 64), 1)])
@pytest.mark.parametrize("channels", [1, 3, 4])
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


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [1, 5])
def test_a_png_holds_the_grid(tmp_path, channels, count):
    images = np.random.default_rng(0).random((count, channels, 8, 8), dtype=np.float32)
    save(tmp_path / "a.png", images, columns=4)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]
        pixels = np.asarray(picture)
    np.testing.assert_array_equal(pixels.reshape(*pixels.shape[:2], channels), grid(images, columns=4))


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA")])
def test_pillow_reads_the_pictures(channels, mode):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, channels), dtype=np.uint8)
    with Image.open(io.BytesIO(image_files.png(pixels))) as picture:
        assert (picture.mode, picture.format) == (mode, "PNG")
        np.testing.assert_array_equal(np.asarray(picture).reshape(pixels.shape), pixels)


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


@pytest.mark.parametrize("name", ["a.jpg", "a.png.txt", ".png"])
def test_an_unknown_suffix_is_an_error(tmp_path, name):
    path = tmp_path / name
    for attempt in (check_output, lambda path: save(path, np.zeros((1, *SHAPE)))):
        with pytest.raises(InputError, match=r"an output must end in \.png, \.npy, \.npz, or .*, but got .*" + name):
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
        file.write_bytes(b"half a file")
        raise failure

    monkeypatch.setitem(image_files._WRITERS, suffix, fail_half_way)
    with pytest.raises(seen, match=str(getattr(failure, "strerror", None) or failure)):
        save(path, np.ones((1, 3, 4, 5)))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_batches_are_written_one_after_the_other(tmp_path, suffix):
    images = np.random.default_rng(0).random((7, *SHAPE), dtype=np.float32)
    path = tmp_path / f"a{suffix}"
    write(path, (images[start : start + 3] for start in (0, 3, 6)), images.shape)
    loaded = np.load(path, allow_pickle=False)
    np.testing.assert_array_equal(loaded if suffix == ".npy" else loaded["images"], images)


def test_without_a_suffix_it_is_a_folder_of_numbered_pictures(tmp_path):
    images = np.random.default_rng(0).random((11, 3, 4, 5), dtype=np.float32)
    write(tmp_path / "a", [images[:6], images[6:]], images.shape)
    assert [path.name for path in sorted((tmp_path / "a").iterdir())] == [f"{number:02}.png" for number in range(11)]
    with Image.open(tmp_path / "a" / "07.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), np.rint(images[7] * 255).transpose(1, 2, 0))
    with pytest.raises(InputError, match="an output folder must not be there yet, but"):
        write(tmp_path / "a", [images], images.shape)


def test_a_folder_that_is_not_finished_is_not_there(tmp_path):
    def batches():
        yield np.zeros((1, 1, 4, 4), np.float32)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "a", batches(), (2, 1, 4, 4))
    assert list(tmp_path.iterdir()) == []


def test_a_grid_that_no_program_opens_is_refused_before_the_work():
    with pytest.raises(InputError, match=r"a grid must have at most 10000 images, but got 10001: \.npy"):
        check_output(Path("a.png"), (10_001, 1, 4, 4))
