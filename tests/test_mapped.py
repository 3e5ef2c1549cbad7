"""Images that processes map by themselves."""

import pickle

import numpy as np
import pytest
from ray.exceptions import WorkerCrashedError

from latentmill.cluster import tasks
from latentmill.cluster.connection import cluster
from latentmill.cluster.mapped import ChangedDataError, Mapped, placed
from latentmill.cluster.tasks import TooLittleMemoryError, result, share, start
from latentmill.cluster.versions import OtherLibrariesError, versions
from latentmill.evaluation.run import Evaluation

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
        ChangedDataError, match=r"must stay as it is while it is used, but .*train.npy has changed: run again"
    ):
        pickle.loads(content)
    path.unlink()
    with pytest.raises(
        ChangedDataError, match=r"must stay where it is while it is used, but .*train.npy: No such file"
    ):
        pickle.loads(content)


@pytest.mark.slow
def test_tasks_map_them_and_refuse_others(path):
    with cluster(workers=1):
        shared = share(mapped(path))
        assert result(start(type, shared)) is Mapped
        assert result(start(np.sum, shared)) == IMAGES.sum()
        np.save(path, IMAGES[:5])
        with pytest.raises(ChangedDataError, match="has changed: run again"):
            result(start(np.sum, shared))


@pytest.mark.slow
def test_a_task_without_memory_says_so_in_a_line():
    said = "a task must fit into memory, but Unable to allocate"
    with cluster(workers=1), pytest.raises(TooLittleMemoryError, match=said):
        result(start(np.empty, 10**15))


def test_a_task_whose_process_died_may_do_better_another_time(monkeypatch):
    def died(started):
        raise WorkerCrashedError

    monkeypatch.setattr("latentmill.cluster.tasks.ray.get", died)
    with pytest.raises(TooLittleMemoryError, match="a task must fit into memory, but The worker died"):
        result(None)


def test_a_task_with_other_libraries_computes_nothing():
    wanted, called = versions(*tasks.LIBRARIES), []
    run = tasks._run._function
    assert run(wanted, lambda each: each + 1, 1) == 2
    with pytest.raises(OtherLibrariesError, match=r"must have the driver's libraries, but .* has torch .* for 9\.9"):
        run(wanted | {"torch": "9.9"}, called.append, 1)
    assert called == []


@pytest.mark.parametrize(
    "error",
    [ChangedDataError("train.npy has changed: run again"), OtherLibrariesError("run again"), TooLittleMemoryError("x")],
)
def test_what_concerns_all_entries_is_no_failure_of_the_one_that_finds_it_out(error, monkeypatch):
    evaluation = Evaluation.__new__(Evaluation)
    evaluation._shared_tasks, evaluation._entry_tasks, evaluation._ended = [], {"task": ("vae", "normal")}, set()
    monkeypatch.setattr("latentmill.evaluation.run.in_order_of_end", lambda started: started)
    monkeypatch.setattr("latentmill.evaluation.run.result", lambda ended: (_ for _ in ()).throw(error))
    if not isinstance(error, TooLittleMemoryError):
        with pytest.raises(type(error), match="run again"):
            list(evaluation.results())
    else:
        assert list(evaluation.results()) == [("vae", "normal", error)]
