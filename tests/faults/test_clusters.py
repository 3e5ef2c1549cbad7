"""Sweeps on several nodes, all on this machine."""

import random
import subprocess
import sys

import pytest
from ray.cluster_utils import Cluster
from sites import ROOT, require_goes_on

pytestmark = pytest.mark.faults


@pytest.fixture
def cluster():
    """Three nodes of one core each: (cluster, the two that are not the head)."""
    unwatched = {"memory_monitor_refresh_ms": 0}  # it counts the whole machine's memory against each node's share
    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": unwatched}
    made = Cluster(initialize_head=True, head_node_args=head)
    nodes = [made.add_node(num_cpus=1) for _ in range(2)]
    yield made, nodes
    made.shutdown()


@pytest.mark.parametrize("seed", [50, 51])
def test_a_node_that_is_killed_in_mid_sweep_costs_at_most_an_epoch(site, undisturbed, cluster, seed):
    made, nodes = cluster
    draw = random.Random(seed)
    running = site.start(RAY_ADDRESS=made.address)
    site.wait(running, lambda: len(site.epochs()) == 3)  # each node has one
    site.wait_for(running, draw.randrange(10, 50))
    before, finished = site.come_to(), site.finished()
    made.remove_node(draw.choice(nodes), allow_graceful=False)
    said, _ = running.communicate(timeout=180)
    assert running.returncode == 0, said
    assert said.count("its worker died, and it is run again from its last epoch") >= 1
    assert site.come_to().keys() >= before.keys()
    assert "4 already trained, 0 to train" in site.run()
    require_goes_on(site, undisturbed, finished)


def test_when_the_head_is_killed_the_driver_ends_and_the_next_cluster_goes_on(site, undisturbed, cluster):
    made, _ = cluster
    running = site.start(RAY_ADDRESS=made.address)
    site.wait_for(running, 30)
    finished = site.finished()
    made.head_node.kill_raylet()
    made.head_node.kill_gcs_server()
    said, _ = running.communicate(timeout=180)
    assert running.returncode != 0, said
    require_goes_on(site, undisturbed, finished)


def test_a_store_that_a_node_does_not_see_is_refused(site, cluster):
    """All nodes are on this machine, so the driver looks elsewhere: it is given a store in a mount of its own."""
    made, _ = cluster
    store = site.root / "private"
    store.mkdir()
    site.write_params(storage=str(store))
    script = f"mount -t tmpfs tmpfs {store} && exec {sys.executable} {ROOT}/pipeline/train.py"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        cwd=site.root,
        env=site.environment | {"RAY_ADDRESS": made.address},
        text=True,
        capture_output=True,
        timeout=120,
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip("only root can mount a disk")
    assert done.returncode == 1
    assert "train.storage must be seen by every node of the cluster" in done.stderr.splitlines()[-1]
    assert list(store.iterdir()) == []
