"""Sprites, and the factors that go with their images, or with those of a table, into the prepared data set."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile_files import picture, saved

from latentmill.config import DataConfig
from latentmill.data import dataset, sources
from latentmill.data.collection import Pixels
from latentmill.data.factors import read_factors
from latentmill.data.preparation.prepare import prepare
from latentmill.data.preparation.summary import lines
from latentmill.data.sources.sprites import COLOURS, SPRITES, Sprite, draw
from latentmill.errors import InputError

MIDDLE = Sprite("ellipse", 0.85, 0, 0.46, 0.54, "red")
IMAGES = [saved(picture(number), "PNG") for number in range(60)]


def prepared(folder: Path, **settings: Any) -> dict[str, Any]:
    folder.mkdir()
    return prepare(DataConfig(**settings), folder, lambda what, done, total: None, processes=0)


def light(image: np.ndarray) -> np.ndarray:
    """The share of each pixel that a sprite covers, H×W."""
    return image.max(0) / image.max()


def middle(image: np.ndarray) -> np.ndarray:
    """The middle of a sprite, x and y, as shares of the sides."""
    share = light(image) / light(image).sum()
    height, width = share.shape
    return np.array(
        [share.sum(0) @ (np.arange(width) + 0.5) / width, share.sum(1) @ (np.arange(height) + 0.5) / height]
    )


def angle(image: np.ndarray) -> float:
    """The direction of the longest axis, in degrees, clockwise."""
    y, x = np.nonzero(light(image) > 0.5)
    covariance = np.cov(x, y)
    vector = np.linalg.eigh(covariance)[1][:, 1]
    return float(np.degrees(np.arctan2(vector[1], vector[0])) % 180)


def test_there_is_one_sprite_for_each_combination() -> None:
    found = sources.load(DataConfig(source="sprites"))
    values = {name: {item.factors[name] for item in found.items if item.factors} for name in Sprite._fields}
    assert {name: len(of) for name, of in values.items()} == dict(zip(Sprite._fields, (3, 4, 5, 6, 6, 4), strict=True))
    assert len(found.items) == len({tuple((item.factors or {}).values()) for item in found.items}) == 8640
    assert {item.label for item in found.items} == {"square", "ellipse", "heart"}


@pytest.mark.parametrize(("size", "shape"), [(None, (3, 32, 32)), ((20, 40), (3, 20, 40))])
def test_sprites_are_drawn_in_the_size_that_is_asked_for(size: Any, shape: tuple[int, ...]) -> None:
    found = sources.load(DataConfig(source="sprites", size=None if size is None else list(size)))
    assert isinstance(found, Pixels)
    assert found.shape == shape
    drawn = found.block(np.array([5, 8000, 5]))
    assert drawn.shape == (3, *shape)
    np.testing.assert_array_equal(drawn[0], drawn[2])
    np.testing.assert_array_equal(drawn[1], draw(SPRITES[8000], *shape[1:]))


def test_no_two_sprites_are_one_picture() -> None:
    some = [sprite for sprite in SPRITES if sprite.colour == "blue" and sprite.x == sprite.y == 0.46]
    assert len({draw(sprite, 32, 32).tobytes() for sprite in some}) == len(some) == 60


@pytest.mark.parametrize("x", [0.3, 0.54, 0.7])
@pytest.mark.parametrize("y", [0.3, 0.62])
def test_x_and_y_are_the_place_of_the_middle(x: float, y: float) -> None:
    for side in (32, 64):
        np.testing.assert_allclose(middle(draw(MIDDLE._replace(x=x, y=y), side, side)), (x, y), atol=0.002)


@pytest.mark.parametrize("shape", ["square", "ellipse", "heart"])
def test_the_area_grows_with_the_square_of_the_scale_and_not_with_the_rotation(shape: str) -> None:
    area = light(draw(MIDDLE._replace(shape=shape, scale=1.0), 64, 64)).sum()
    for scale in (0.55, 0.7):
        smaller = light(draw(MIDDLE._replace(shape=shape, scale=scale, rotation=36), 64, 64)).sum()
        assert smaller == pytest.approx(area * scale**2, rel=0.02)


@pytest.mark.parametrize("rotation", [0, 18, 36, 54, 72])
def test_the_rotation_turns_the_long_axis_of_an_ellipse_clockwise(rotation: int) -> None:
    assert angle(draw(MIDDLE._replace(rotation=rotation), 64, 64)) == pytest.approx(rotation, abs=1.5)


def test_a_heart_points_down_and_edges_are_antialiased() -> None:
    heart = light(draw(MIDDLE._replace(shape="heart", scale=1.0), 32, 32))
    rows = np.nonzero(heart.sum(1))[0]
    assert heart[rows[-1]].sum() < heart[rows[1]].sum()
    assert ((heart > 0) & (heart < 1)).sum() > 10


@pytest.mark.parametrize("colour", COLOURS)
def test_the_colour_fills_the_sprite_on_black(colour: str) -> None:
    drawn = draw(MIDDLE._replace(colour=colour), 32, 32)
    assert tuple(drawn[:, 17, 14]) == COLOURS[colour]
    assert (drawn[:, 0] == 0).all()


def test_a_path_that_would_be_ignored_is_refused() -> None:
    for ask in (sources.load, sources.files):
        with pytest.raises(InputError, match=r"data.path must be left out for sprites.*but got 'my.npy'"):
            ask(DataConfig(source="sprites", path="my.npy"))


@pytest.mark.parametrize(("settings", "copies"), [({"size": 16, "limit": 500}, False), ({"size": 4}, True)])
def test_factors_stay_with_their_images_when_these_are_drawn_split_and_freed_of_copies(
    tmp_path: Path, settings: dict[str, Any], copies: bool
) -> None:
    manifest = prepared(tmp_path / "p", source="sprites", seed=3, drop_near_duplicates=False, **settings)
    assert sum(manifest["counts"].values()) + sum(manifest["duplicates_dropped"].values()) == settings.get(
        "limit", 8640
    )
    assert (sum(manifest["duplicates_dropped"].values()) > 0) == copies
    for split in dataset.SPLITS:
        factors, images = read_factors(tmp_path / "p", split), dataset.read_split(tmp_path / "p", split)
        assert factors is not None
        for row in range(0, len(images), 20):
            values = [of[place] for of, place in zip(factors.values.values(), factors.indices[row], strict=True)]
            shape, scale, rotation, x, y, colour = values
            sprite = Sprite(shape, float(scale), int(rotation), float(x), float(y), colour)
            np.testing.assert_array_equal(images[row], draw(sprite, *images.shape[2:]))


def test_sprites_hold_no_near_duplicates(tmp_path: Path) -> None:
    """Of neighbouring sprites too; a whole set has none, but is compared for ten seconds."""
    some = [row for row, each in enumerate(SPRITES) if each.x in (0.46, 0.54) and each.y == 0.46 and each.scale < 0.8]
    images = np.stack([draw(SPRITES[row], 32, 32) for row in some])
    np.savez(tmp_path / "some.npz", images=images)
    manifest = prepared(tmp_path / "p", source="arrays", path=str(tmp_path / "some.npz"))
    assert manifest["duplicates_dropped"] == {"train": 0, "val": 0, "test": 0}


def table(path: Path, **columns: Any) -> str:
    pq.write_table(pa.table({"image": IMAGES, **columns}), path)
    return str(path)


def test_columns_of_a_table_may_be_factors_and_change_nothing_that_is_trained_on(tmp_path: Path) -> None:
    pose = [f"pose {row % 3}" for row in range(60)]
    path = table(tmp_path / "t.parquet", pose=pose, light=[row % 2 for row in range(60)])
    with_factors = prepared(tmp_path / "with", source="table", path=path, factors=["light", "pose"])
    without = prepared(tmp_path / "without", source="table", path=path)
    told: list[str] = []
    lines(with_factors, told.append)
    assert "  known factors: light (2 values), pose (3 values)" in told
    assert with_factors["factors"] == {"light": ["0", "1"], "pose": ["pose 0", "pose 1", "pose 2"]}
    assert (without["factors"], read_factors(tmp_path / "without", "test")) == ({}, None)
    assert with_factors["digest"] == without["digest"] == dataset.intact_digest(tmp_path / "with")
    found = read_factors(tmp_path / "with", "train")
    assert found is not None
    known = {picture(row).tobytes(): row for row in range(60)}
    rows = [known[image.transpose(1, 2, 0).tobytes()] for image in dataset.read_split(tmp_path / "with", "train")]
    assert found.indices.tolist() == [[row % 2, row % 3] for row in rows]


def test_factors_that_say_nothing_are_not_used(tmp_path: Path) -> None:
    path = table(
        tmp_path / "t.parquet", number=list(range(60)), some=["a", None] * 30, good=[row % 2 for row in range(60)]
    )
    manifest = prepared(tmp_path / "p", source="table", path=path, factors=["number", "some", "good"])
    assert list(manifest["factors"]) == ["good"]
    assert manifest["notes"] == [
        "the factor number is not used: 60 values of 60 images leave fewer than 10 images a value",
        "the factor some is not used: 30 of 60 images have none",
    ]


def test_factors_that_are_no_columns_are_refused(tmp_path: Path) -> None:
    path = table(tmp_path / "t.parquet", pose=["a"] * 60)
    with pytest.raises(InputError, match=r"data.factors must be a column of .*, but 'light' is none of image, pose"):
        sources.load(DataConfig(source="table", path=path, factors=["light"]))


def test_factors_of_other_images_are_refused(tmp_path: Path) -> None:
    prepared(tmp_path / "p", source="sprites", size=8, limit=200)
    np.save(tmp_path / "p/test_factors.npy", np.zeros((3, 6), np.int64))
    with pytest.raises(
        InputError, match=r"test_factors.npy must have shape \(\d+, 6\), but has \(3, 6\): run `dvc repro"
    ):
        read_factors(tmp_path / "p", "test")
