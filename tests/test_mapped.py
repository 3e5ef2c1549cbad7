"""Images that processes map by themselves."""

import pickle

import numpy as np
import pytest

from latentmill.errors import InputError
from latentmill.sweep.cluster import cluster
from latentmill.sweep.mapped import Mapped, placed
from latentmill.sweep.tasks import result, share, start

IMAGES = np.arange(240, dtype=np.uint8).reshape(10, 1, 4, 6)


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    np.save(tmp_path / "train.npy", IMAGES)
    return tmp_path / "train.npy"


def mapped(path) -> np.ndarray:
    return placed(np.lib.format.open_memmap(path, mode="r"))


def test_images_mapped_from_a_file_are_pickled_as_its_path(path):
    content = pickle.dumps(mapped(path))
    assert len(content) < IMAGES.nbytes + 200
    assert path.name.encode() in content
    again = pickle.loads(content)
    assert isinstance(again, Mapped)
    np.testing.assert_array_equal(again, IMAGES)
    assert not again.flags.writeable


@pytest.mark.parametrize("part", [np.s_[3:], np.s_[[1, 2]], np.s_[:, 0]])
def test_a_part_of_them_is_pickled_as_its_content(path, part):
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(mapped(path)[part])), IMAGES[part])
    assert path.name.encode() not in pickle.dumps(mapped(path)[part])


def test_on_a_cluster_of_other_machines_they_go_by_content(path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert type(mapped(path)) is np.ndarray
    np.testing.assert_array_equal(mapped(path), IMAGES)


def test_another_file_under_the_path_is_refused(path):
    content = pickle.dumps(mapped(path))
    np.save(path, IMAGES[::-1])
    with pytest.raises(
        InputError, match=r"must stay as it is while it is used, but .*train.npy has changed: run again"
    ):
        pickle.loads(content)
    path.unlink()
    with pytest.raises(InputError, match=r"must stay where it is while it is used, but .*train.npy: No such file"):
        pickle.loads(content)


def test_tasks_map_them_and_refuse_others(path):
    with cluster(workers=1):
        shared = share(mapped(path))
        assert result(start(type, shared)) is Mapped
        assert result(start(np.sum, shared)) == IMAGES.sum()
        np.save(path, IMAGES[:5])
        with pytest.raises(InputError, match="has changed: run again"):
            result(start(np.sum, shared))


def test_a_task_without_memory_says_so_in_a_line():
    with cluster(workers=1), pytest.raises(InputError, match="a task must fit into memory, but Unable to allocate"):
        result(start(np.empty, 10**15))
