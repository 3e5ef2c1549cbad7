"""The sources that libraries carry, and which source goes with a path."""

from typing import Any

import numpy as np
import pytest

from latentmill.config import DataConfig
from latentmill.data import sources
from latentmill.errors import InputError


@pytest.mark.parametrize(("source", "count", "side"), [("digits", 1797, 8), ("mnist-5k", 5000, 28)])
def test_bundled_sources_use_the_whole_range_of_bytes(source: Any, count: int, side: int) -> None:
    loaded = sources.load(DataConfig(source=source))
    assert loaded.images.shape == (count, 1, side, side)
    assert loaded.images.dtype == np.uint8
    assert (loaded.images.min(), loaded.images.max()) == (0, 255)
    assert loaded.labels is not None
    assert loaded.labels.dtype == np.int64
    assert loaded.labels.shape == (count,)
    assert set(loaded.labels.tolist()) == set(range(10))
    assert loaded.test_images is None


def test_digits_are_scaled_from_16_to_255_and_rounded() -> None:
    levels = np.unique(sources.load(DataConfig(source="digits")).images)
    assert levels.tolist() == [round(grey * 255 / 16) for grey in range(17)]


@pytest.mark.parametrize("source", ["digits", "mnist-5k"])
def test_a_path_that_would_be_ignored_is_refused(source: Any) -> None:
    with pytest.raises(InputError, match=f"data.path must be left out for {source}.*but got 'my.npy'"):
        sources.load(DataConfig(source=source, path="my.npy"))


def test_arrays_need_a_path() -> None:
    with pytest.raises(InputError, match=r"data.path must name a \.npy or \.npz file.*but is missing"):
        sources.load(DataConfig(source="arrays"))
