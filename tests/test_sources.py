"""The sources that libraries carry, and which source goes with a path."""

from pathlib import Path
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


@pytest.mark.parametrize(
    ("source", "settings"),
    [
        ("arrays", {"label": "kind"}),
        ("arrays", {"group": "person"}),
        ("arrays", {"splits": "folders"}),
        ("digits", {"label": 1}),
        ("mnist-5k", {"group": 1}),
        ("fashion-mnist", {"splits": "folders"}),
        ("fashion-mnist", {"label": "kind"}),
        ("folder", {"white": 100}),
        ("digits", {"white": 16}),
        ("archive", {"image": "picture"}),
        ("sprites", {"factors": ["shape"]}),
    ],
)
def test_a_setting_that_a_source_cannot_follow_is_refused(source: Any, settings: dict[str, Any]) -> None:
    (key,) = settings
    for ask in (sources.load, sources.files):
        with pytest.raises(InputError, match=f"data.{key} must be left out for the source {source}, .* but got"):
            ask(DataConfig(source=source, **settings))


def test_labels_can_be_left_out_of_any_source(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", images=np.full((4, 8, 8), 9, np.uint8), labels=[0, 1, 0, 1])
    for config in (
        DataConfig(source="digits", label=None),
        DataConfig(source="arrays", path=str(tmp_path / "mine.npz"), label=None),
    ):
        assert {item.label for item in sources.load(config).items} == {None}


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("folder", "."),
        ("folder", "data"),
        ("table", "data/../data"),
        ("arrays", "data/prepared/train.npy"),
        ("archive", "data/prepared/{00..11}.tar"),
        ("folder", "link"),
    ],
)
def test_a_path_that_holds_or_lies_in_what_is_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Any, path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("data")
    for ask in (sources.load, sources.files):
        with pytest.raises(InputError, match=r"data.path must lie apart from what is written, data/listing.txt and"):
            ask(DataConfig(source=source, path=path))


@pytest.mark.parametrize(
    ("source", "path"),
    [("folder", "photos"), ("archive", "shards/{00..11}.tar"), ("arrays", "mine.npz"), ("table", "x")],
)
def test_a_relative_path_that_is_not_in_the_copy_in_which_dvc_runs_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Any, path: str
) -> None:
    """As `dvc exp run --temp` does, whose copy has only what git tracks."""
    copy = tmp_path / ".dvc/tmp/exps/tmpab12"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    told = (
        r"^data.path must be an absolute path where DVC runs in a copy .* as with --temp .*, which git does not track$"
    )
    with pytest.raises(InputError, match=told):
        sources.files(DataConfig(source=source, path=path))


def test_a_path_that_is_in_the_copy_in_which_dvc_runs_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / ".dvc/tmp/exps/tmpab12"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    np.save("mine.npy", np.full((4, 8, 8), 9, np.uint8))
    for path in ("mine.npy", str(copy / "mine.npy")):
        assert len(sources.load(DataConfig(source="arrays", path=path)).items) == 4


def test_images_beside_what_is_written_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/mine").mkdir(parents=True)
    np.save("data/mine/a.npy", np.full((4, 8, 8), 9, np.uint8))
    assert len(sources.load(DataConfig(source="arrays", path="data/mine/a.npy")).items) == 4


@pytest.mark.parametrize("source", ["folder", "archive", "table", "arrays", "fashion-mnist"])
@pytest.mark.parametrize("path", ["x" * 300, "a\0b", "~nobody-of-this-name/images"])
def test_a_path_that_cannot_be_is_refused(source: Any, path: str) -> None:
    for ask in (sources.load, sources.files):
        with pytest.raises(InputError, match=r"data.path must be a path that can be reached, but got"):
            ask(DataConfig(source=source, path=path))
