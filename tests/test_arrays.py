"""A user's own images: which files are read, and that every bad one is refused in one line."""

import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latentmill.config import DataConfig
from latentmill.data import sources
from latentmill.data.collection import Pixels
from latentmill.data.numpy_files import read_npz
from latentmill.errors import InputError


def _random(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def _load(path: Path, **settings: Any) -> Pixels:
    found = sources.load(DataConfig(source="arrays", path=str(path), **settings))
    assert isinstance(found, Pixels)
    return found


def _images(path: Path, **settings: Any) -> Any:
    found = _load(path, **settings)
    return found.block(np.arange(len(found.items)))


def _labels(path: Path) -> list[str | None]:
    return [item.label for item in _load(path).items]


def _saved(folder: Path, array: Any) -> Path:
    np.save(folder / "images.npy", array)
    return folder / "images.npy"


def _refused(path: Path, rule: str) -> None:
    """Loading `path` must end in one line that names the file and matches `rule`."""
    with pytest.raises(InputError, match=rule) as caught:
        _load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((5, 6, 7), (5, 1, 6, 7)),
        ((5, 1, 6, 7), (5, 1, 6, 7)),
        ((5, 3, 6, 7), (5, 3, 6, 7)),
        ((5, 6, 7, 1), (5, 1, 6, 7)),
        ((5, 6, 7, 3), (5, 3, 6, 7)),
        ((5, 2, 6, 7), (5, 2, 6, 7)),
        ((5, 6, 7, 2), (5, 2, 6, 7)),
        ((5, 4, 6, 7), (5, 4, 6, 7)),
        ((5, 6, 7, 4), (5, 4, 6, 7)),
    ],
)
def test_layouts_become_channels_first(tmp_path: Path, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    images = _random(*shape)
    loaded = _images(_saved(tmp_path, images))
    assert loaded.shape == expected
    assert loaded.flags.c_contiguous
    channels_last = loaded.transpose(0, 2, 3, 1)
    same_layout = channels_last if shape[-1] < 5 else loaded
    np.testing.assert_array_equal(same_layout.reshape(shape), images)


@pytest.mark.parametrize("dtype", ["int64", "uint16", ">i4", "int16"])
def test_wider_integers_within_bytes_are_taken_as_they_are(tmp_path: Path, dtype: str) -> None:
    images = _random(4, 5, 5)
    np.testing.assert_array_equal(_images(_saved(tmp_path, images.astype(dtype)))[:, 0], images)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
def test_floats_are_scaled_and_rounded_to_the_nearest_byte(tmp_path: Path, dtype: str) -> None:
    images = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    np.testing.assert_array_equal(_images(_saved(tmp_path, (images / 255).astype(dtype)))[:, 0], images)
    assert (_images(_saved(tmp_path, np.full((1, 4, 4), 0.999, dtype))) == 255).all()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_brings_labels_or_none(tmp_path: Path, save: Any) -> None:
    path = tmp_path / "images.npz"
    images, labels = _random(3, 4, 4), np.array([7, 8, 9], np.uint8)
    save(path, images=images, labels=labels)
    assert _labels(path) == ["7", "8", "9"]
    np.testing.assert_array_equal(_images(path)[:, 0], images)
    save(path, images=images)
    assert _labels(path) == [None, None, None]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (np.array(["cat", "a dog"]), ["cat", "a dog"]),
        (np.array([b"cat", b"dog"]), ["cat", "dog"]),
        (np.array([3.0, -1.0]), ["3", "-1"]),
        (np.array([True, False]), ["True", "False"]),
        (np.array([2**63, 0], np.uint64), [str(2**63), "0"]),
    ],
    ids=str,
)
def test_labels_are_names(tmp_path: Path, labels: Any, names: list[str]) -> None:
    np.savez(tmp_path / "images.npz", images=_random(2, 4, 4), labels=labels, groups=labels[::-1])
    assert _labels(tmp_path / "images.npz") == names
    assert [item.group for item in _load(tmp_path / "images.npz").items] == names[::-1]


def test_booleans_are_black_and_white(tmp_path: Path) -> None:
    images = np.array([[[True, False] * 2] * 4] * 2)
    np.testing.assert_array_equal(_images(_saved(tmp_path, images))[:, 0], images * 255)


@pytest.mark.parametrize("high", [0, 1])
def test_integers_up_to_1_are_ambiguous_unless_white_is_named(tmp_path: Path, high: int) -> None:
    images = np.zeros((2, 4, 4), np.uint8)
    images[1, 0, 0] = high
    path = _saved(tmp_path, images)
    _refused(path, "must have a value above 1.*if 1 is white, save them as booleans or times 255; if .* nearly black")
    np.testing.assert_array_equal(_images(path, white=1)[:, 0], images * 255)
    np.testing.assert_array_equal(_images(path, white=255)[:, 0], images)


def test_white_scales_integers_of_any_range(tmp_path: Path) -> None:
    images = (np.arange(64).reshape(1, 8, 8) * 1040).astype(np.uint16)  # up to 65520
    np.testing.assert_array_equal(_images(_saved(tmp_path, images), white=65535)[:, 0], np.rint(images / 257))
    with pytest.raises(InputError, match=r"must lie within 0\.\.16, but got values from 0 to 65520"):
        _load(_saved(tmp_path, images), white=16)


def _one(value: float, dtype: str = "float32") -> Any:
    """Images that are all 0 but for one value."""
    images = np.zeros((2, 4, 4), dtype)
    images[1, 2, 3] = value
    return images


@pytest.mark.parametrize(
    ("array", "rule"),
    [
        (_one(np.nan), "must be finite, but some values are NaN or infinite"),
        (_one(np.inf), "must be finite, but some values"),
        (_one(1.5), r"floats must lie within 0\.\.1, but got values from 0 to 1.5"),
        (_one(-0.25), r"floats must lie within 0\.\.1, but got values from -0.25 to 0"),
        (_one(256, "int32"), r"integers must lie within 0\.\.255, but got values from 0 to 256"),
        (_one(-1, "int8"), r"integers must lie within 0\.\.255, but got values from -1 to 0"),
        (np.zeros((4, 4, 4), complex), "must be booleans, integers or floats, but got dtype complex128"),
        (np.full((4, 4, 4), "a"), "must be booleans, integers or floats, but got dtype <U1"),
        (np.zeros((4, 4, 4), [("a", "u1")]), "must be booleans, integers or floats, but got dtype "),
        (_random(8, 8), r"must be \(N, H, W\).* but got shape \(8, 8\)"),
        (_random(2, 2, 3, 8, 8), r"must be \(N, H, W\).* but got shape \(2, 2, 3, 8, 8\)"),
        (np.uint8(3), r"must be \(N, H, W\).* but got shape \(\)"),
        (_random(2, 3, 8, 3), r"second or the last axis, and not on both, but got shape \(2, 3, 8, 3\)"),
        (_random(2, 8, 8, 5), r"must have 1 to 4 channels on .* but got shape \(2, 8, 8, 5\)"),
        (_random(0, 8, 8), "must hold at least 1 image, but holds 0"),
        (_random(5, 0, 8), r"must have at least 1 pixel, but got shape \(5, 1, 0, 8\)"),
    ],
)
def test_bad_images_are_refused(tmp_path: Path, array: Any, rule: str) -> None:
    _refused(_saved(tmp_path, array), rule)


class _Bomb:
    """Unpickling this ends the test run: the loader must never do so."""

    def __reduce__(self) -> Any:
        return sys.exit, ("unpickled",)


def test_objects_and_ragged_images_are_refused_unopened(tmp_path: Path) -> None:
    bombs, ragged = np.array([_Bomb(), _Bomb()], object), np.empty(2, object)
    ragged[:] = [_random(8, 8), _random(8, 9)]
    for objects in (bombs, ragged):
        _refused(_saved(tmp_path, objects), "without Python objects, but: .*Python objects in dtype")
    np.savez(tmp_path / "bomb.npz", images=bombs)
    _refused(tmp_path / "bomb.npz", "without Python objects, but: Object arrays cannot be loaded")


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize("kept", [0, 3, 20, 100, 200, -1])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str, kept: int) -> None:
    path = tmp_path / f"images.{suffix}"
    np.save(path, _random(9, 8, 8)) if suffix == "npy" else np.savez(path, images=_random(9, 8, 8))
    path.write_bytes(path.read_bytes()[:kept])
    _refused(path, "must be a whole NumPy file")


def test_corrupt_files_are_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "images.npz", images=np.zeros((9, 8, 8), np.uint8))
    content = (tmp_path / "images.npz").read_bytes()
    (tmp_path / "images.npz").write_bytes(content[:60] + bytes([content[60] ^ 0xFF]) + content[61:])
    _refused(tmp_path / "images.npz", "must be a whole NumPy file")


@pytest.mark.parametrize("shape", [b"((((10, 8, 8), }", b"(10, 8, 8000000000000)}", b"(-10, 8, 8), }"])
def test_corrupt_headers_are_refused(tmp_path: Path, shape: bytes) -> None:
    path = _saved(tmp_path, _random(10, 8, 8))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"(10, 8, 8), }".ljust(len(shape)), shape))
    assert path.read_bytes() != content
    _refused(path, "must be a whole NumPy file")


@pytest.mark.parametrize("order", ["C", "F"])
def test_large_arrays_in_a_npz_file_are_mapped_unless_they_are_compressed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: Any
) -> None:
    monkeypatch.setattr("latentmill.data.numpy_files.MAPPED_FROM", 1_000)
    images, labels = np.asarray(_random(30, 8, 8), order=order), np.arange(30)
    for save, is_mapped in ((np.savez, True), (np.savez_compressed, False)):
        save(tmp_path / "images.npz", labels=labels, images=images)
        found = read_npz(tmp_path / "images.npz")
        assert [isinstance(found[name], np.memmap) for name in ("labels", "images")] == [False, is_mapped]
        np.testing.assert_array_equal(found["images"], images)
        np.testing.assert_array_equal(found["labels"], labels)


@pytest.mark.parametrize("place", [200, 1_000, -300])
def test_large_arrays_that_are_damaged_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int) -> None:
    monkeypatch.setattr("latentmill.data.numpy_files.MAPPED_FROM", 1_000)
    np.savez(tmp_path / "images.npz", images=_random(30, 8, 8))
    content = bytearray((tmp_path / "images.npz").read_bytes())
    content[place] ^= 0xFF
    (tmp_path / "images.npz").write_bytes(content)
    _refused(tmp_path / "images.npz", "must be a whole NumPy file")


def test_the_wrong_format_under_a_right_suffix_is_refused(tmp_path: Path) -> None:
    npy, npz = tmp_path / "images.npy", tmp_path / "images.npz"
    np.save(npy, _random(2, 4, 4))
    npy.rename(npz)
    _refused(npz, "must be a whole NumPy file.*not a zip file")
    np.savez(npz, images=_random(2, 4, 4))
    npz.rename(npy)
    _refused(npy, "must be a whole NumPy file.*magic string")
    with zipfile.ZipFile(npz, "w") as archive:
        archive.writestr("images.npy", b"text")
    _refused(npz, "images must be a NumPy array, but is a file of another format")


@pytest.mark.parametrize("name", ["images.png", "images", "images.npy.gz", ".npy"])
def test_another_suffix_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    _refused(tmp_path / name, r"data.path must end in \.npy or \.npz for the source arrays, but got")


def test_a_path_that_is_no_file_is_refused(tmp_path: Path) -> None:
    for name in ("missing.npy", "missing.npz"):
        _refused(tmp_path / name, "must exist, but there is no such file")
    (tmp_path / "folder.npy").mkdir()
    _refused(tmp_path / "folder.npy", "must be a whole NumPy file.*directory")


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ({"image": _random(2, 4, 4)}, r"must hold 'images' and at most 'labels' and 'groups', but holds \['image'\]"),
        ({"images": _random(2, 4, 4), "label": np.arange(2)}, r"at most 'labels' .* holds \['images', 'label'\]"),
        ({"images": _random(2, 4, 4), "labels": np.arange(3)}, r"labels must have shape \(2,\).* but got \(3,\)"),
        (
            {"images": _random(2, 4, 4), "labels": np.eye(2, dtype=int)},
            r"\(2, 2\); if they are one-hot, save labels.argmax\(1\)",
        ),
        ({"images": _random(2, 4, 4), "labels": np.array([0, 0.5])}, "text or whole numbers, but got 0.5"),
        ({"images": _random(2, 4, 4), "labels": np.array([0, np.nan])}, "text or whole numbers, but got nan"),
        ({"images": _random(2, 4, 4), "groups": np.array([0, 1j])}, "groups must be text or whole numbers"),
    ],
)
def test_bad_npz_contents_are_refused(tmp_path: Path, content: dict[str, Any], rule: str) -> None:
    np.savez(tmp_path / "images.npz", **content)
    _refused(tmp_path / "images.npz", rule)
