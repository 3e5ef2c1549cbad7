"""Work on a Ray cluster of two nodes, both on this machine: what it computes is what one machine computes."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import prepared_sets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from hostile_files import cases, picture, saved
from ray.cluster_utils import Cluster

from latentmill import registry
from latentmill.cluster import mapped
from latentmill.cluster.connection import cluster
from latentmill.cluster.decoding import Distributed
from latentmill.cluster.tasks import start
from latentmill.config import DataConfig, EvaluationConfig
from latentmill.data.collection import Files, Item, UnreadableError
from latentmill.data.dataset import read_split
from latentmill.data.preparation.fitting import Target
from latentmill.data.preparation.intake import decode_all
from latentmill.data.preparation.prepare import prepare
from latentmill.errors import InputError
from latentmill.evaluation import run
from latentmill.evaluation.prepared import PreparedData
from latentmill.storage import Storage

pytestmark = pytest.mark.slow

CONFIG = EvaluationConfig(samples=150, importance_samples=11, likelihood_images=12, features=["pixels"])
MODELS = {"naive_bayes": {}, "ppca": {"latent": 5}}


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory):
    """Of one core each: (cluster, the nodes' folders for temporary files)."""
    with pytest.MonkeyPatch.context() as patch:
        places = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]  # of these functions
        patch.setenv("PYTHONPATH", os.pathsep.join(places))
        patch.setenv("RAY_TMPDIR", "/tmp")  # for sockets, whose paths must be short
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", "0123456789abcdef" * 4)
        unwatched = {"memory_monitor_refresh_ms": 0}  # it counts the whole machine's memory against each node's share
        head = {"num_cpus": 1, "include_dashboard": False, "_system_config": unwatched}
        made, folders = Cluster(), [tmp_path_factory.mktemp("node") for _ in range(2)]
        for folder, settings in zip(folders, (head, {"num_cpus": 1}), strict=True):
            patch.setenv("TMPDIR", str(folder))
            made.add_node(**settings)
        patch.delenv("TMPDIR")
        patch.setenv("RAY_ADDRESS", made.address)
        yield made, folders
        made.shutdown()


@pytest.fixture
def notes():
    return []


@pytest.fixture
def distributed(two_nodes, notes):
    return Distributed(notes.append)


def quiet(what, done, total):
    pass


def on_a_node() -> bool:
    return ray.is_initialized()


def doubled(task: list[int], marks: Path) -> list[int]:
    """Leaves the name of its node; 7 always ends its process, and 8 the first that computes it."""
    if on_a_node():
        (marks / ray.get_runtime_context().get_node_id()).touch()
    for number in task:
        deaths = len(list(marks.glob(f"{number}-*")))
        if number == 7 or (number == 8 and deaths < 1):
            (marks / f"{number}-{deaths}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return [2 * number for number in task]


def test_what_ends_its_process_costs_itself_alone(distributed, notes, tmp_path):
    tasks = [list(range(start, start + 5)) for start in range(0, 50, 5)]
    found = {}
    for task, result in distributed(doubled, tasks, 2, tmp_path):
        found |= dict(zip(task, result or [None], strict=True))
    assert found == {number: None if number == 7 else 2 * number for number in range(50)}
    assert len([path for path in tmp_path.iterdir() if "-" not in path.name]) == 2, "both nodes have computed"
    assert notes == []


def slowly(task: list[int]) -> list[int]:
    time.sleep(0.3)
    return task


def test_a_node_that_dies_costs_nothing(two_nodes, distributed, notes):
    made, _ = two_nodes
    third, found = made.add_node(num_cpus=1), {}
    for task, result in distributed(slowly, [[number, number + 1] for number in range(0, 60, 2)], 2):
        if third and found:
            made.remove_node(third, allow_graceful=False)
            third = None
        found |= dict(zip(task, result, strict=True))
    assert found == {number: number for number in range(60)}
    assert notes == []


def always_ends(task: list[int]) -> list[int]:
    os.kill(os.getpid(), signal.SIGKILL)
    return task


def test_processes_that_all_end_are_refused(distributed):
    with pytest.raises(InputError, match="able to decode on the nodes of the cluster, but 6 ended at once"):
        list(distributed(always_ends, [[number] for number in range(50)], 2))


def seen_here_alone(task: list[int]) -> list[bool]:
    return [not on_a_node() for _ in task]


def test_where_a_node_sees_no_files_all_is_decoded_here_and_a_line_says_so(distributed, notes):
    assert list(distributed(seen_here_alone, [[1, 2], [3]], 1)) == [([1, 2], [True, True]), ([3], [True])]
    (note,) = notes
    assert note.startswith(
        "images are decoded on this machine alone: every node must see the files under the same paths"
    )


def unreadable_there(locator: int) -> bytes:
    """All but the first on a node."""
    if locator and on_a_node():
        raise UnreadableError("unreadable: stale file handle")
    return saved(picture(locator), "PNG")


def test_what_a_node_fails_to_read_is_read_here(distributed, notes, tmp_path):
    items = [Item(str(number)) for number in range(5)]
    collection = Files("drawn", items, [], list(range(5)), read=unreadable_there)
    shape = Target(3, 24, 24, "crop", (255, 255, 255))
    intake = decode_all(collection, shape, tmp_path / "all.npy", 1, quiet, distributed)
    np.testing.assert_array_equal(intake.images.transpose(0, 2, 3, 1), [picture(number) for number in range(5)])
    assert (intake.dropped, notes) == ([], [])


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Images, whole and damaged, in a folder and a table below the working directory."""
    contents = {name: case.content for name, case in cases().items()}
    contents |= {f"{number}.png": saved(picture(number), "PNG") for number in range(400)}
    (tmp_path / "mine").mkdir()
    for name, content in contents.items():
        (tmp_path / "mine" / name.replace("/", " ")).write_bytes(content)
    pq.write_table(pa.table({"image": list(contents.values())}), tmp_path / "mine.parquet")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "settings", [{"source": "folder", "path": "mine"}, {"source": "table", "path": "mine.parquet"}]
)
def test_two_nodes_prepare_what_one_machine_prepares(distributed, notes, mine, settings):
    config, written = DataConfig(**settings, size=24, max_dropped=1.0), []
    for name, elsewhere in (("alone", None), ("together", distributed)):
        Path(name).mkdir()
        prepare(config, Path(name), quiet, 2, elsewhere)
        written.append({path.name: path.read_bytes() for path in Path(name).iterdir()})
    assert written[0].keys() >= {"train.npy", "dropped.csv", "manifest.json"}
    assert written[0] == written[1]
    assert notes == []


def unseen(path, stamp) -> bool:
    return False


def placed_out_of_sight(images, storage):
    """On nodes that see the driver's file no more."""
    found = mapped.placed(images, storage)
    path = found.origin[0]
    path.rename(path.with_suffix(".away"))
    return found


def noted(function, marks: Path, *arguments):
    """What the function returns; leaves the name of the node."""
    (marks / ray.get_runtime_context().get_node_id()).touch()
    return function(*arguments)


def evaluated(models, data, storage, monkeypatch, marks: Path):
    """The results, without what a run's folders are called."""
    monkeypatch.setattr(run, "start", lambda function, *arguments: start(noted, function, marks, *arguments))
    with cluster(2):
        evaluation = run.Evaluation(models, data, CONFIG, storage)
        found = {(entry, prior): result for entry, prior, result in evaluation.results()}
    return {key: (result.metrics, result.pictures) for key, result in found.items()}


def test_an_evaluation_on_two_nodes_maps_a_copy_on_each_and_finds_what_one_machine_finds(
    two_nodes, trained, digits, labels, tmp_path, monkeypatch
):
    parts = {"train": slice(440), "val": slice(440, 500), "test": slice(500, 600)}
    by_split = [{name: each[part] for name, part in parts.items()} for each in (digits, labels)]
    prepared_sets.write(tmp_path / "prepared", *by_split)
    data = PreparedData(*(read_split(tmp_path / "prepared", name) for name in parts), *by_split[1].values())
    models = {name: (trained(name, config)[0], {}) for name, config in MODELS.items()}
    models["ppca"][1]["normal"] = registry.build("priors", "normal", {}, models["ppca"][0].code_shape)
    with monkeypatch.context() as patch:
        patch.delenv("RAY_ADDRESS")
        (tmp_path / "one").mkdir()
        alone = evaluated(models, data, Storage(tmp_path / "store"), patch, tmp_path / "one")
    (tmp_path / "two").mkdir()
    monkeypatch.setattr(mapped, "SMALL", 0)
    monkeypatch.setattr(mapped, "_sees", unseen)
    monkeypatch.setattr(run, "placed", placed_out_of_sight)
    together = evaluated(models, data, Storage(tmp_path / "store"), monkeypatch, tmp_path / "two")
    assert together == alone
    assert {entry for entry, _ in together} == {"naive_bayes", "ppca"}
    assert [len(list(folder.rglob(".data-*/*.npy"))) for folder in two_nodes[1]] == [3, 3]
    assert len(list((tmp_path / "two").iterdir())) == 2, "both nodes have computed"
