"""The sources that libraries carry, and which source goes with a path."""

from typing import Any

import numpy as np
import pytest

from latentmill.config import DataConfig
from latentmill.data import sources
from latentmill.data.collection import Loaded
from latentmill.errors import InputError


def _loaded(source: Any) -> Loaded:
    found = sources.load(DataConfig(source=source))
    assert isinstance(found, Loaded)
    return found


@pytest.mark.parametrize(("source", "count", "side"), [("digits", 1797, 8), ("mnist-5k", 5000, 28)])
def test_bundled_sources_use_the_whole_range_of_bytes(source: Any, count: int, side: int) -> None:
    loaded = _loaded(source)
    assert loaded.images.shape == (count, 1, side, side)
    assert loaded.images.dtype == np.uint8
    assert (loaded.images.min(), loaded.images.max()) == (0, 255)
    assert {item.label for item in loaded.items} == set(map(str, range(10)))
    assert {item.split for item in loaded.items} == {None}
    assert all(path.is_file() for path in sources.files(DataConfig(source=source)))


def test_digits_are_scaled_from_16_to_255_and_rounded() -> None:
    assert np.unique(_loaded("digits").images).tolist() == [round(grey * 255 / 16) for grey in range(17)]


@pytest.mark.parametrize("source", ["digits", "mnist-5k"])
def test_a_path_that_would_be_ignored_is_refused(source: Any) -> None:
    with pytest.raises(InputError, match=f"data.path must be left out for {source}.*but got 'my.npy'"):
        sources.load(DataConfig(source=source, path="my.npy"))


@pytest.mark.parametrize("source", ["folder", "archive", "table", "arrays"])
def test_sources_of_the_user_need_a_path(source: Any) -> None:
    for ask in (sources.load, sources.files):
        with pytest.raises(InputError, match=f"data.path must name a .* for the source {source}, but is missing"):
            ask(DataConfig(source=source))
