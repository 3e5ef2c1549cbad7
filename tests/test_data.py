"""The prepared data set: how it is split, written and read, and the stage that does it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latentmill.config import DataConfig
from latentmill.data import dataset
from latentmill.data.sources import Images
from latentmill.data.splits import split
from latentmill.errors import InputError

STAGE = Path(__file__).parents[1] / "pipeline" / "prepare.py"
PARAMS = "data: {source: arrays, path: %s}\ntrial: {}\ntrain: {}\nladder: {vae: {}}\nevaluation: {}\nexport: {}\n"


def _numbered(count: int, start: int = 0) -> Any:
    """`count` different images, 1×4×4, whose first pixels hold their number; `_numbers` reads it."""
    images = np.zeros((count, 1, 4, 4), np.uint8)
    images[:, 0, 0, :2] = np.stack(np.divmod(np.arange(start, start + count), 256), axis=1)
    return images


def _numbers(images: Any) -> list[int]:
    return (images[:, 0, 0, 0].astype(int) * 256 + images[:, 0, 0, 1]).tolist()


def _pool(count: int) -> Images:
    return Images("numbered", _numbered(count), np.arange(count))


def _config(**changes: Any) -> DataConfig:
    return DataConfig(source="arrays", **changes)


def test_a_split_deals_every_image_once_with_its_label() -> None:
    splits = split(_pool(1000), _config(val=0.2, test=0.1))
    assert {name: len(images) for name, images in splits.images.items()} == {"train": 700, "val": 200, "test": 100}
    assert sorted(number for images in splits.images.values() for number in _numbers(images)) == list(range(1000))
    assert splits.labels is not None
    for name in dataset.SPLITS:
        assert splits.labels[name].tolist() == _numbers(splits.images[name])
    assert splits.dropped == {"train": 0, "val": 0, "test": 0}


def test_the_seed_alone_decides_the_shuffle() -> None:
    first, again, other = (split(_pool(100), _config(seed=seed)).images for seed in (3, 3, 4))
    for name in dataset.SPLITS:
        np.testing.assert_array_equal(first[name], again[name])
        assert set(_numbers(first[name])) != set(_numbers(other[name]))
    assert _numbers(first["train"]) != sorted(_numbers(first["train"]))


def test_a_test_set_of_its_own_is_kept_whole_and_in_order() -> None:
    source = Images("own", _numbered(100), np.arange(100), _numbered(30, start=500), np.arange(30))
    splits = split(source, _config(val=0.4, test=0.9))
    assert _numbers(splits.images["test"]) == list(range(500, 530))
    assert splits.labels is not None
    assert splits.labels["test"].tolist() == list(range(30))
    assert (len(splits.images["train"]), len(splits.images["val"])) == (60, 40)


def test_copies_stay_only_in_the_earliest_split() -> None:
    pool = np.repeat(_numbered(100), 2, axis=0)
    splits = split(Images("copies", pool, np.repeat(np.arange(100), 2)), _config(val=0.3, test=0.3))
    train, val, test = (_numbers(splits.images[name]) for name in dataset.SPLITS)
    assert len(train) == 80
    assert len(set(train)) < 80  # copies within a split are kept
    assert set(train).isdisjoint(val)
    assert set(train + val).isdisjoint(test)
    assert set(train + val + test) == set(range(100))
    assert splits.dropped == {"train": 0, "val": 60 - len(val), "test": 60 - len(test)}
    assert splits.dropped["val"] > 0
    assert splits.dropped["test"] > 0
    assert splits.labels is not None
    assert splits.labels["val"].tolist() == val


def test_copies_of_the_pool_leave_a_test_set_of_its_own() -> None:
    own_test = np.concatenate([_numbered(10, start=500), _numbered(5), _numbered(2, start=500)])
    splits = split(Images("own", _numbered(100), test_images=own_test), _config())
    assert _numbers(splits.images["test"]) == [*range(500, 510), 500, 501]
    assert splits.dropped == {"train": 0, "val": 0, "test": 5}
    assert splits.labels is None


@pytest.mark.parametrize(
    ("source", "changes", "rule"),
    [
        (_pool(5), {}, "val must have at least 2 images, but has 1 of 5 images, 0 dropped"),
        (_pool(1), {}, "train must have at least 2 images, but has 1 of 1 images"),
        (_pool(100), {"val": 0.01}, "val must have at least 2 images, but has 1 of 100"),
        (_pool(100), {"test": 0.001}, "test must have at least 2 images, but has 0 of 100"),
        (_pool(10), {"val": 0.45, "test": 0.45}, "train must have at least 2 images, but has 0 of 10"),
        (_pool(100), {"val": 0.5, "test": 0.5}, r"data.val \+ data.test must be less than 1,.* but got 0.5 \+ 0.5"),
        (_pool(100), {"val": 0.9}, r"data.val \+ data.test must be less than 1,.* but got 0.9 \+ 0.15"),
        (Images("same", np.zeros((99, 1, 4, 4), np.uint8)), {}, "val .* but has 0 of 99 images, 15 dropped as copies"),
    ],
)
def test_splits_that_are_too_small_are_refused(source: Images, changes: dict[str, float], rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        split(source, _config(**changes))


def _written(folder: Path, source: Images) -> dict[str, Any]:
    folder.mkdir(parents=True)
    return dataset.write(folder, split(source, _config()), "arrays", source.description)


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    manifest = _written(tmp_path / "prepared", _pool(100))
    splits = split(_pool(100), _config())
    assert splits.labels is not None
    for name in dataset.SPLITS:
        np.testing.assert_array_equal(dataset.read_split(tmp_path / "prepared", name), splits.images[name])
        np.testing.assert_array_equal(dataset.read_labels(tmp_path / "prepared", name), splits.labels[name])
    assert dataset.read_manifest(tmp_path / "prepared") == manifest
    assert (manifest["source"], manifest["description"]) == ("arrays", "numbered")
    assert (manifest["shape"], manifest["classes"]) == ([1, 4, 4], [str(label) for label in range(100)])
    assert manifest["counts"] == {"train": 70, "val": 15, "test": 15}
    assert manifest["duplicates_dropped"] == {"train": 0, "val": 0, "test": 0}


def test_without_labels_none_are_written_or_read(tmp_path: Path) -> None:
    assert _written(tmp_path / "prepared", Images("bare", _numbered(100)))["classes"] is None
    assert dataset.read_labels(tmp_path / "prepared", "train") is None
    names = {path.name for path in (tmp_path / "prepared").iterdir()}
    assert names == {"train.npy", "val.npy", "test.npy", "manifest.json"}


def test_digests_name_the_content(tmp_path: Path) -> None:
    changed = _pool(100)
    changed.images[_numbers(split(changed, _config()).images["test"])[0], 0, 3, 3] = 1
    first, again, other = (
        _written(tmp_path / name, source) for name, source in [("a", _pool(100)), ("b", _pool(100)), ("c", changed)]
    )
    assert first == again
    assert other["digest"] != first["digest"]
    differing = [name for name in dataset.SPLITS if other["digests"][name] != first["digests"][name]]
    assert differing == ["test"]


@pytest.mark.parametrize("read", [dataset.read_split, dataset.read_labels])
def test_reading_refuses_what_is_no_prepared_data_set(tmp_path: Path, read: Any) -> None:
    with pytest.raises(InputError, match=r"nowhere must hold a prepared data set.*run the stage prepare"):
        read(tmp_path / "nowhere", "train")
    _written(tmp_path / "prepared", _pool(100))
    with pytest.raises(InputError, match="a split must be one of train, val, test, but got 'valid'"):
        read(tmp_path / "prepared", "valid")
    for name in ("train.npy", "train_labels.npy"):
        (tmp_path / "prepared" / name).unlink()
    with pytest.raises(InputError, match="npy must exist, but there is no such file"):
        read(tmp_path / "prepared", "train")


@pytest.mark.parametrize("content", ["{", "[]", "{}", "\x00"])
def test_a_damaged_manifest_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"manifest\.json must be "):
        dataset.read_manifest(tmp_path)


def _run_stage(folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "params.yaml").write_text(PARAMS % "mine.npy", encoding="utf-8")
    return subprocess.run([sys.executable, STAGE], cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_the_stage_writes_the_data_set_and_says_so_in_one_line(tmp_path: Path) -> None:
    np.save(tmp_path / "mine.npy", _numbered(100))
    done = _run_stage(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
    assert "70 train, 15 val, 15 test; 0 duplicates dropped" in done.stdout
    manifest = json.loads((tmp_path / "data" / "prepared" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["source"] == "arrays"
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["prepared"]


def test_a_stage_that_fails_says_why_in_one_line_and_spoils_nothing(tmp_path: Path) -> None:
    before = _written(tmp_path / "data" / "prepared", _pool(100))
    failed = _run_stage(tmp_path)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr == "error: mine.npy must exist, but there is no such file\n"
    assert dataset.read_manifest(tmp_path / "data" / "prepared") == before
