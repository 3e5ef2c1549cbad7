"""Fashion-MNIST's IDX files: read with their own test set, or refused in one line that says how to get them."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latentmill.config import DataConfig
from latentmill.data import sources
from latentmill.data.collection import Loaded
from latentmill.data.sources import fashion_mnist
from latentmill.errors import InputError

TRAIN, TRAIN_LABELS, TEST, TEST_LABELS = (
    f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
)


def _random(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def _packed(content: bytes) -> bytes:
    """Without the time, which would stand in the names of tests: each process must find the same."""
    return gzip.compress(content, mtime=0)


def _idx(array: Any) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


def _fashion(folder: Path) -> Path:
    """A Fashion-MNIST in small: 12 images to train, 5 to test, 4×6 pixels."""
    contents = {TRAIN: _random(12, 4, 6), TRAIN_LABELS: np.arange(12), TEST: _random(5, 4, 6, seed=1)}
    for name, array in (contents | {TEST_LABELS: np.arange(5)}).items():
        (folder / name).write_bytes(_packed(_idx(array)))
    return folder


def test_idx_files_are_read_with_their_own_test_set(tmp_path: Path) -> None:
    loaded = sources.load(DataConfig(source="fashion-mnist", path=str(_fashion(tmp_path))))
    assert isinstance(loaded, Loaded)
    np.testing.assert_array_equal(loaded.images[:12, 0], _random(12, 4, 6))
    np.testing.assert_array_equal(loaded.images[12:, 0], _random(5, 4, 6, seed=1))
    assert [item.split for item in loaded.items] == [None] * 12 + ["test"] * 5
    assert [item.label for item in loaded.items[-2:]] == ["Dress", "Coat"]


def test_without_a_path_the_folder_of_the_debian_package_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fashion_mnist, "FOLDER", _fashion(tmp_path))
    assert len(sources.load(DataConfig(source="fashion-mnist")).items) == 17
    assert all(path.parent == tmp_path for path in sources.files(DataConfig(source="fashion-mnist")))


@pytest.mark.parametrize("missing", [TRAIN, TEST_LABELS])
def test_missing_idx_files_come_with_the_way_to_get_them(tmp_path: Path, missing: str) -> None:
    (_fashion(tmp_path) / missing).unlink()
    with pytest.raises(InputError, match=f"{missing} must exist.*apt-get install dataset-fashion-mnist.*data.path"):
        sources.load(DataConfig(source="fashion-mnist", path=str(tmp_path)))


@pytest.mark.parametrize(
    ("name", "content", "rule"),
    [
        (TRAIN, b"no gzip", "must be a whole gzip file"),
        (TRAIN, _packed(_idx(_random(12, 4, 6)))[:-20], "must be a whole gzip file"),
        (TRAIN, _packed(b""), "must begin with the magic number 00000803, but got ''"),
        (TRAIN, _packed(_idx(np.arange(12))), "must begin with the magic number 00000803, but got '00000801'"),
        (TRAIN, _packed(b"\0\0\x0d\x03" + bytes(12)), "magic number 00000803, but got '00000d03'"),
        (TRAIN, _packed(b"\0\0\x08\x03" + bytes(7)), "must have a header of 16 bytes, but ends after 11"),
        (TRAIN, _packed(_idx(_random(12, 4, 6))[:-1]), "must hold 288 bytes after its header, but holds 287"),
        (TRAIN, _packed(_idx(_random(12, 4, 6)) + b"!"), "must hold 288 bytes after its header, but holds 289"),
        (TRAIN, _packed(_idx(_random(0, 4, 6))), r"at least 1 image of at least 1 pixel, but has shape \(0, 1, 4, 6\)"),
        (TRAIN_LABELS, _packed(_idx(np.arange(11))), "must hold 12 labels, one an image, but holds 11"),
        (TEST_LABELS, _packed(_idx(np.arange(6))), "must hold 5 labels, one an image, but holds 6"),
        (TEST, _packed(_idx(_random(5, 6, 4))), r"of one size, but are \(4, 6\) and \(6, 4\)"),
    ],
)
def test_bad_idx_files_are_refused(tmp_path: Path, name: str, content: bytes, rule: str) -> None:
    (_fashion(tmp_path) / name).write_bytes(content)
    with pytest.raises(InputError, match=rule) as caught:
        sources.load(DataConfig(source="fashion-mnist", path=str(tmp_path)))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
