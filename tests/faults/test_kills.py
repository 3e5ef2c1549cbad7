"""Processes that are killed or told to end, at moments drawn by a seed: running again loses nothing."""

import os
import random
import signal
import time

import pytest
from sites import LADDER, LONG, Site, require_goes_on
from test_pipeline import Project

every = pytest.mark.faults  # those that only `make faults` runs
WORKER, RAYLET, GCS, DRIVER = "ray::ImplicitFunc", "raylet/raylet", "gcs/gcs_server", "pipeline/train.py"
AGENT = "ray::RuntimeEnvAgent"
GOES_ON = "its worker died, and it is run again from its last epoch"


def moment(seed: int) -> int:
    """The epoch to strike after: late enough to see whether it is lost, and before the last."""
    return random.Random(seed).randrange(10, 60)


@pytest.mark.parametrize(
    ("number", "seed"),
    [
        pytest.param(signal.SIGKILL, 1, id="kill-1", marks=every),
        pytest.param(signal.SIGKILL, 2, id="kill-2", marks=every),
        pytest.param(signal.SIGTERM, 3, id="term-3", marks=every),
    ],
)
def test_a_worker_that_dies_is_replaced_within_the_sweep(site, undisturbed, number, seed):
    running = site.start()
    site.wait_for(running, moment(seed))
    before, finished = site.come_to(), site.finished()
    random.Random(seed).choice(site.processes(WORKER)).send_signal(number)
    said, _ = running.communicate(timeout=120)
    assert running.returncode == 0, said
    assert said.count(GOES_ON) == 1
    assert site.come_to().keys() >= before.keys()
    require_goes_on(site, undisturbed, finished)


@every
def test_a_trial_whose_workers_all_die_is_given_up_and_goes_on_with_the_next_run(prepared, tmp_path, undisturbed):
    """Of several trials, those that wait go before one whose worker has died, so that the deaths would be of many."""
    site = Site(tmp_path).prepare(prepared, {"vae": {"latent": 2, **LONG}})
    running = site.start()
    for epoch in (10, 30, 50):
        site.wait_for(running, epoch)
        for process in site.processes(WORKER):
            process.kill()
        while running.poll() is None and site.processes(WORKER):
            time.sleep(0.05)
    said, _ = running.communicate(timeout=120)
    assert "failed: 3 times its worker died, or could not keep its result" in said
    assert "Traceback" not in said
    site.run()
    assert len(site.weights()) == 1
    assert site.weights().items() <= undisturbed.weights().items()


@pytest.mark.parametrize(
    ("mark", "seed"),
    [
        pytest.param(DRIVER, 4, id="driver-4", marks=every),
        pytest.param(DRIVER, 5, id="driver-5", marks=every),
        pytest.param(DRIVER, 6, id="driver-6", marks=every),
        pytest.param(RAYLET, 7, id="raylet-7", marks=every),
        pytest.param(RAYLET, 8, id="raylet-8", marks=every),
        pytest.param(GCS, 9, id="gcs-9", marks=every),
        pytest.param(AGENT, 10, id="agent-10", marks=every),
    ],
)
def test_after_kill_9_of_what_all_depends_on_running_again_goes_on(site, undisturbed, mark, seed):
    running = site.start()
    site.wait_for(running, moment(seed))
    before, finished = site.come_to(), site.finished()
    (victim,) = site.processes(mark)
    victim.kill()
    said, _ = running.communicate(timeout=120)
    assert running.returncode != 0, said
    after = site.come_to()
    assert all(after[trial] >= epoch for trial, epoch in before.items())
    site.require_no_process(seconds=20, but="Agent")  # Ray's take up to a minute
    require_goes_on(site, undisturbed, finished)


def once(running, number):
    running.send_signal(number)


def all_at_once(running, number):
    """As Slurm, Kubernetes and a closed terminal do."""
    os.killpg(running.pid, number)


def twice(running, number):
    running.send_signal(number)
    time.sleep(0.5)
    running.send_signal(number)


@pytest.mark.parametrize(
    ("number", "send", "status", "seed"),
    [
        pytest.param(signal.SIGTERM, once, 143, 11, id="SIGTERM-11", marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, once, 143, 12, id="SIGTERM-12", marks=every),
        pytest.param(signal.SIGTERM, all_at_once, None, 13, id="SIGTERM-to-all-13", marks=every),
        pytest.param(signal.SIGTERM, all_at_once, None, 14, id="SIGTERM-to-all-14", marks=every),
        pytest.param(signal.SIGTERM, twice, None, 15, id="SIGTERM-twice-15", marks=every),
        pytest.param(signal.SIGINT, once, 130, 16, id="SIGINT-16", marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, all_at_once, None, 17, id="SIGINT-to-all-17", marks=every),
        pytest.param(signal.SIGHUP, all_at_once, -1, 18, id="SIGHUP-to-all-18", marks=every),
    ],
)
def test_a_signal_ends_the_driver_within_ten_seconds(site, undisturbed, number, send, status, seed):
    running = site.start()
    site.wait_for(running, moment(seed))
    finished, struck = site.finished(), time.monotonic()
    send(running, number)
    said, _ = running.communicate(timeout=60)
    took = time.monotonic() - struck
    print(f"{took:.1f} s, status {running.returncode}")
    assert took < 10
    assert running.returncode != 0, said
    assert status in (running.returncode, None), said
    assert "Traceback" not in said
    site.require_no_process(seconds=10, but="Agent")
    require_goes_on(site, undisturbed, finished)


@every
@pytest.mark.parametrize("seed", range(20, 26))
def test_a_signal_at_any_moment_from_the_start_on_loses_nothing(site, undisturbed, seed):
    """Also while Ray starts, and when the sweep has just ended."""
    draw = random.Random(seed)
    running = site.start()
    time.sleep(draw.uniform(0, 12))
    finished, number = site.finished(), draw.choice([signal.SIGTERM, signal.SIGKILL])
    struck = time.monotonic()
    running.send_signal(number)
    said, _ = running.communicate(timeout=60)
    print(f"{number.name}: {time.monotonic() - struck:.1f} s, status {running.returncode}", said)
    assert time.monotonic() - struck < 10
    site.require_no_process(seconds=20, but="Agent")
    require_goes_on(site, undisturbed, finished)


@every
@pytest.mark.parametrize("seed", [30, 31])
def test_one_kill_after_another_ends_with_the_same_weights(site, undisturbed, seed):
    draw = random.Random(seed)
    for _ in range(3):
        come_so_far = max(site.epochs().values(), default=0)
        running = site.start()
        site.wait_for(running, come_so_far + draw.randrange(1, 5))
        finished, before = site.finished(), site.come_to()
        random.Random(seed).choice(site.processes(draw.choice([DRIVER, RAYLET]))).kill()
        running.communicate(timeout=120)
        site.require_no_process(seconds=20, but="Agent")
        assert all(site.come_to()[trial] >= epoch for trial, epoch in before.items())
        if len(site.weights()) == len(undisturbed.weights()):
            break  # workers that outlived the others have ended their trials
    require_goes_on(site, undisturbed, finished)


@every
@pytest.mark.parametrize("pack", ["off", 4])
def test_a_search_that_learns_makes_the_same_plan_after_a_kill(prepared, tmp_path, pack):
    ladder = {"vae": LONG | {"epochs": 20, "latent": 2, "learning_rate": {"loguniform": [1e-4, 1e-2]}, "samples": 12}}
    for name in ("disturbed", "undisturbed"):
        (tmp_path / name).mkdir()
    site, other = (
        Site(tmp_path / name).prepare(prepared, ladder, search="optuna", pack=pack)
        for name in ("disturbed", "undisturbed")
    )
    other.run()
    running = site.start()
    site.wait(running, lambda: len(site.finished()) >= 2 * 9)  # in its second round
    finished = site.finished()
    running.kill()
    running.communicate()
    if pack == "off":
        require_goes_on(site, other, finished)
        return
    site.run()  # in other company, whose sums are rounded otherwise
    assert site.weights().keys() == other.weights().keys()
    assert finished.items() <= site.finished().items(), "a finished trial was trained again"


# Under DVC


@every
@pytest.mark.parametrize(
    ("number", "patience", "seed"),
    [(signal.SIGKILL, 0, 40), (signal.SIGKILL, 8, 41), (signal.SIGTERM, 0, 42), (signal.SIGINT, 0, 43)],
)
def test_the_driver_ends_with_its_dvc_and_dvc_repro_goes_on(tmp_path, undisturbed, number, patience, seed):
    """Also at once, while what the dead `dvc repro` left is still ending."""
    project, site = Project(tmp_path), Site(tmp_path)
    site.command, site.environment = ("dvc", "repro", "train"), project.environment
    site.write_params(LADDER)
    running = site.start()
    site.wait_for(running, moment(seed))
    finished, (driver,) = site.finished(), site.processes(DRIVER)
    (os.killpg if number == signal.SIGINT else os.kill)(running.pid, number)
    running.wait(timeout=60)
    if patience:
        driver.wait(timeout=patience)
    require_goes_on(site, undisturbed, finished)
    assert not driver.is_running()
    running.stdout.close()
