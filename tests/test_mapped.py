"""Images that processes map by themselves, and the copies of them on machines that do not see the driver's files."""

import os
import pickle
import shutil
import tempfile
from pathlib import Path

import numpy as np
import prepared_sets
import pytest
from ray.exceptions import NodeDiedError, ObjectLostError, RayTaskError, WorkerCrashedError

from latentmill.cluster import mapped as mapping
from latentmill.cluster import staging, tasks
from latentmill.cluster.connection import cluster
from latentmill.cluster.mapped import ChangedDataError, Mapped, placed
from latentmill.cluster.tasks import TooLittleMemoryError, result, result_or_reason, share, start
from latentmill.cluster.versions import OtherLibrariesError, versions
from latentmill.data.dataset import read_split
from latentmill.errors import InputError
from latentmill.evaluation.run import Evaluation
from latentmill.storage import Storage

IMAGES = np.arange(240, dtype=np.uint8).reshape(10, 1, 4, 6)


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    np.save(tmp_path / "train.npy", IMAGES)
    return tmp_path / "train.npy"


def mapped(path) -> np.ndarray:
    return placed(np.lib.format.open_memmap(path, mode="r"), Storage(path.parent / "store"))


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


def test_on_a_cluster_of_other_machines_small_ones_go_by_content(path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert type(mapped(path)) is np.ndarray
    np.testing.assert_array_equal(mapped(path), IMAGES)


@pytest.fixture
def sent(tmp_path, monkeypatch):
    """Images that are too large for the object store, on a cluster whose nodes have a folder of their own."""
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    monkeypatch.setattr(mapping, "SMALL", 0)
    monkeypatch.setattr(mapping, "require_shared", lambda storage: None)
    monkeypatch.setattr(mapping, "on_each_node", lambda function, *arguments: [False])
    monkeypatch.setattr(staging, "_held", {})
    (tmp_path / "node").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "node"))
    prepared_sets.write(tmp_path / "prepared", dict.fromkeys(("train", "val", "test"), IMAGES))
    return placed(read_split(tmp_path / "prepared", "train"), Storage(tmp_path / "store"))


def copies(root: Path) -> list[Path]:
    return sorted((root / "node").rglob("*.npy"))


def test_where_the_drivers_file_is_seen_it_is_mapped_and_elsewhere_one_copy_of_it(sent, tmp_path):
    assert sent.origin[2] is not None, "it is in the store"
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(sent)), IMAGES)
    assert copies(tmp_path) == []
    content = pickle.dumps(sent)
    shutil.rmtree(tmp_path / "prepared")
    first = pickle.loads(content)
    (copy,) = copies(tmp_path)
    before = copy.stat()
    again = pickle.loads(content)
    assert isinstance(again, Mapped)
    assert copies(tmp_path) == [copy]
    assert copy.stat() == before
    assert copy.parents[1].stat().st_mode & 0o777 == 0o700
    for found in (first, again):
        np.testing.assert_array_equal(found, IMAGES)


def test_another_file_in_the_drivers_place_does_no_harm_to_other_machines(sent, tmp_path):
    content = pickle.dumps(sent)
    np.save(tmp_path / "prepared/train.npy", IMAGES[::-1])
    np.testing.assert_array_equal(pickle.loads(content), IMAGES)


def test_a_copy_of_other_bytes_is_refused_and_not_left_behind(sent, tmp_path):
    stored = sent.origin[2]
    path = tmp_path / "store" / stored.name
    np.save(path, IMAGES[::-1])
    with pytest.raises(InputError, match=r"must be as they were sent, but .data-\w+/train.npy is not: run again"):
        stored.staged()
    path.unlink()
    with pytest.raises(InputError, match=r"must be reachable from every node, but on .*: .*No such file"):
        stored.staged()
    assert copies(tmp_path) == []


def test_a_node_without_room_says_how_much_is_needed(sent, monkeypatch):
    free = shutil.disk_usage("/")._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: free)
    with pytest.raises(
        InputError, match=r"every node must have room for the images in .* has 1e-07 for .*: set TMPDIR"
    ):
        sent.origin[2].staged()


def test_the_next_data_set_takes_the_place_of_one_that_nobody_maps(sent, tmp_path, monkeypatch):
    prepared_sets.write(tmp_path / "others", dict.fromkeys(("train", "val", "test"), IMAGES[::-1]))
    other = placed(read_split(tmp_path / "others", "train"), Storage(tmp_path / "store")).origin[2]
    first, second = sent.origin[2].staged(), other.staged()
    assert copies(tmp_path) == sorted([first, second]), "this process maps the first"
    for descriptor in staging._held.values():
        os.close(descriptor)
    monkeypatch.setattr(staging, "_held", {})
    second.unlink()
    assert copies(tmp_path) == [first]
    assert other.staged() == second
    assert copies(tmp_path) == [second]


def test_a_folder_of_another_user_is_not_used(sent, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "node" / f"latentmill-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"copied to a folder of one's own, but .* is another's: set TMPDIR"):
        sent.origin[2].staged()


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


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (WorkerCrashedError(), "The worker died"),
        (NodeDiedError("its node"), "its node"),
        (ObjectLostError("ab", "here", "stack"), "Failed to retrieve object ab"),
    ],
)
def test_a_task_whose_process_or_node_died_may_do_better_another_time(monkeypatch, error, said):
    def died(started):
        raise error

    monkeypatch.setattr("latentmill.cluster.tasks.ray.get", died)
    with pytest.raises(TooLittleMemoryError, match=f"a task must fit into memory, but {said}"):
        result(None)


def test_any_error_of_a_task_may_be_a_reason_in_a_line(monkeypatch, capsys):
    def failed(started):
        raise RayTaskError("decode", "Traceback: at line 7", IndexError("index 3\nis out of bounds"))

    monkeypatch.setattr("latentmill.cluster.tasks.ray.get", failed)
    with pytest.raises(RayTaskError):
        result(None)
    with pytest.raises(InputError, match=r"^IndexError: index 3 is out of bounds$"):
        result_or_reason(None)
    assert "Traceback: at line 7" in capsys.readouterr().out


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
    monkeypatch.setattr("latentmill.evaluation.run.result_or_reason", lambda ended: (_ for _ in ()).throw(error))
    if not isinstance(error, TooLittleMemoryError):
        with pytest.raises(type(error), match="run again"):
            list(evaluation.results())
    else:
        assert list(evaluation.results()) == [("vae", "normal", error)]


def test_an_error_of_what_all_entries_share_ends_the_evaluation(monkeypatch):
    error = RayTaskError("calibrate", "at line 7", ValueError("no pool"))
    evaluation = Evaluation.__new__(Evaluation)
    evaluation._shared_tasks, evaluation._entry_tasks, evaluation._ended = ["judge"], {"task": ("vae", "normal")}, set()
    monkeypatch.setattr("latentmill.evaluation.run.in_order_of_end", lambda started: started)
    monkeypatch.setattr("latentmill.cluster.tasks.ray.get", lambda started: (_ for _ in ()).throw(error))
    with pytest.raises(RayTaskError, match="at line 7"):
        list(evaluation.results())
