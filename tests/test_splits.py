"""Which image goes to which split: at random, with its group, or as the source says."""

from collections import Counter
from hashlib import sha256
from typing import Any

import numpy as np
import pytest

from latentmill.config import DataConfig
from latentmill.data.collection import Item, Loaded
from latentmill.data.dataset import SPLITS
from latentmill.data.preparation.duplicates import without_copies
from latentmill.data.preparation.limit import limited
from latentmill.data.preparation.splits import numbered_groups, split
from latentmill.errors import InputError


def _items(count: int, **fields: Any) -> list[Item]:
    return [Item(f"image {number}", **fields) for number in range(count)]


def _config(**changes: Any) -> DataConfig:
    return DataConfig(source="arrays", **changes)


def test_every_image_is_dealt_once() -> None:
    rows = split(_items(1000), _config(val=0.2, test=0.1))
    assert {name: len(rows[name]) for name in SPLITS} == {"train": 700, "val": 200, "test": 100}
    assert sorted(np.concatenate([rows[name] for name in SPLITS])) == list(range(1000))


def test_the_seed_alone_decides_the_shuffle() -> None:
    first, again, other = (split(_items(100), _config(seed=seed)) for seed in (3, 3, 4))
    for name in SPLITS:
        np.testing.assert_array_equal(first[name], again[name])
        assert set(first[name]) != set(other[name])
    assert first["train"].tolist() != sorted(first["train"])


def test_a_test_set_of_its_own_is_kept_whole_and_in_order() -> None:
    rows = split(_items(100) + _items(30, split="test"), _config(val=0.4, test=0.9))
    assert rows["test"].tolist() == list(range(100, 130))
    assert (len(rows["train"]), len(rows["val"])) == (60, 40)


def test_all_splits_may_come_from_the_source() -> None:
    items = _items(4, split="val") + _items(6, split="train") + _items(3, split="test")
    rows = split(items, _config(val=0.9, test=0.9))
    assert rows["val"].tolist() == [0, 1, 2, 3]
    assert sorted(rows["train"]) == [4, 5, 6, 7, 8, 9]
    assert rows["test"].tolist() == [10, 11, 12]


def test_a_group_is_never_on_both_sides() -> None:
    items = [Item(f"image {number}", group=f"person {number % 37}") for number in range(1000)]
    rows = split(items, _config(val=0.2, test=0.1))
    people = {name: {items[row].group for row in rows[name]} for name in SPLITS}
    assert sum(len(each) for each in people.values()) == 37
    assert 100 <= len(rows["test"]) < 130, "at least its share, by less than one group"
    assert 200 <= len(rows["val"]) < 230
    assert sorted(np.concatenate([rows[name] for name in SPLITS])) == list(range(1000))


def test_groups_are_numbered_and_an_image_without_is_one_of_its_own() -> None:
    items = [Item(f"image {place}", group=group) for place, group in enumerate(("b", None, "a", None, "b"))]
    numbers = numbered_groups(items)
    assert numbers is not None
    assert numbers[0] == numbers[4]
    assert len(set(numbers.tolist())) == 4
    assert numbered_groups(_items(3)) is None


def test_a_group_in_two_splits_of_the_source_is_refused() -> None:
    items = [Item(f"image {place}", group="a", split=place) for place in ("test", "train", "val")]
    with pytest.raises(InputError, match="must not stand in several splits, but 'a' is in train and val"):
        split(items, _config())


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"val": 0.5, "test": 0.5}, r"data.val \+ data.test must be less than 1,.* but got 0.5 \+ 0.5"),
        ({"val": 0.9}, r"data.val \+ data.test must be less than 1,.* but got 0.9 \+ 0.15"),
    ],
)
def test_fractions_that_leave_nothing_to_train_on_are_refused(changes: dict[str, float], rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        split(_items(100), _config(**changes))


def test_exact_copies_stay_only_in_the_earliest_split() -> None:
    rng = np.random.default_rng(0)
    images = np.repeat(rng.integers(0, 256, (100, 1, 8, 8), dtype=np.uint8), 2, axis=0)
    dealt = split(_items(200), _config(val=0.3, test=0.3))
    kept, left_out = without_copies(images, dealt, near=False, progress=lambda what, done, total: None)
    numbers = {name: [row // 2 for row in kept[name]] for name in SPLITS}
    assert len(numbers["train"]) == 80
    assert len(set(numbers["train"])) < 80, "copies within a split are kept"
    assert set(numbers["train"]).isdisjoint(numbers["val"])
    assert set(numbers["train"] + numbers["val"]).isdisjoint(numbers["test"])
    assert {*numbers["train"], *numbers["val"], *numbers["test"]} == set(range(100))
    for name in ("val", "test"):
        assert len(left_out[name].rows) == 60 - len(numbers[name]) > 0
        assert [row // 2 for row in left_out[name].rows] == [row // 2 for row in left_out[name].originals]


def test_each_split_has_its_groups_though_the_one_before_has_more_than_its_share() -> None:
    items = [Item(str(row), group=str(row // 100)) for row in range(300)]
    assert {name: len(rows) for name, rows in split(items, _config()).items()} == dict.fromkeys(SPLITS, 100)
    items = [Item(str(row), group=str(row // 100)) for row in range(1000)]
    found = split(items, _config(val=0.05, test=0.05))
    assert {name: len(rows) for name, rows in found.items()} == {"train": 800, "val": 100, "test": 100}
    items = [Item(str(row), group=str(row // 100)) for row in range(200)]
    assert len(split(items, _config())["train"]) == 0, "to be refused with the number of groups"


def test_images_without_groups_are_dealt_as_ever() -> None:
    rows = split(_items(100), _config())
    digest = sha256(b"".join(rows[name].tobytes() for name in SPLITS)).hexdigest()
    assert digest[:12] == "cfcecc5fbba9"


def _kept(config: DataConfig, **counts: int) -> dict[str, int]:
    items = [item for name, count in counts.items() for item in _items(count, split=name)]
    found = limited(Loaded("", items, images=np.zeros((len(items), 1, 4, 4), np.uint8)), config)
    return Counter(str(item.split) for item in found.items)


def test_a_limit_leaves_each_split_of_the_source_its_share() -> None:
    for seed in range(20):
        assert _kept(_config(limit=20, seed=seed), train=400, test=20) == {"train": 18, "test": 2}
        assert _kept(_config(limit=40, seed=seed), train=400, val=200, test=200) == {"train": 20, "val": 10, "test": 10}
        assert _kept(_config(limit=6, seed=seed), train=100, val=3, test=3) == {"train": 2, "val": 2, "test": 2}
        assert _kept(_config(limit=50, seed=seed), train=100, val=1, test=2) == {"train": 47, "val": 1, "test": 2}
    with pytest.raises(InputError, match=r"data.limit must leave each of 3 splits 2 images, .* at least 6, but is 5"):
        _kept(_config(limit=5), train=100, val=3, test=3)


def test_a_limit_without_splits_draws_as_ever() -> None:
    items = _items(50)
    found = limited(Loaded("", items, images=np.zeros((50, 1, 4, 4), np.uint8)), _config(limit=10, seed=3))
    rows = np.sort(np.random.default_rng(3).choice(50, 10, replace=False))
    assert [item.name for item in found.items] == [f"image {row}" for row in rows]
