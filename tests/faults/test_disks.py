"""Disks that are full, or can't be written."""

import random
import subprocess
import time

import pytest
from mounts import mounted
from sites import Site, require_goes_on

pytestmark = pytest.mark.faults
LINES = 60  # four trials, each run three times, and less than a hundred epochs each


@pytest.fixture
def disk(tmp_path):
    """A file system of its own: (folder, remount)."""
    with mounted(tmp_path / "disk", "size=100m") as folder:
        yield folder, lambda option: subprocess.run(["mount", "-o", f"remount,{option}", folder], check=True)


@pytest.fixture
def site(prepared, tmp_path, disk):
    (tmp_path / "site").mkdir()
    return Site(tmp_path / "site", disk[0]).prepare(prepared)


def besides_progress(said):
    """The lines that do not become more on a busier machine."""
    return [line for line in said.splitlines() if not line.startswith("[")]


@pytest.mark.parametrize("size", ["8k", "200k", "400k"])
def test_a_disk_too_small_for_the_sweep_ends_it_in_lines_and_with_room_it_goes_on(site, disk, undisturbed, size):
    disk[1](f"size={size}")
    running = site.start()
    said, _ = running.communicate(timeout=180)
    assert "No space left on device" in said
    assert "Traceback" not in said
    assert len(besides_progress(said)) < LINES, "a line for each thing, not for each epoch"
    assert len(site.weights()) < 4, "the disk must have been too small for this test to show anything"
    finished = site.finished()
    disk[1]("size=100m")
    require_goes_on(site, undisturbed, finished)


def test_a_disk_that_fills_up_in_mid_sweep_and_is_freed_again_ends_no_sweep(site, disk, undisturbed):
    running = site.start()
    site.wait_for(running, 20)
    filler = disk[0] / "filler"
    filled = subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=1M"], capture_output=True, text=True)
    assert "No space left" in filled.stderr
    time.sleep(1)
    filler.unlink()
    said, _ = running.communicate(timeout=120)
    assert running.returncode == 0, said
    assert "No space left on device" in said
    require_goes_on(site, undisturbed, site.finished())


def test_a_store_that_is_read_only_is_refused_in_a_line(site, disk, undisturbed):
    disk[1]("ro")
    said = site.run(status=1)
    assert said.splitlines()[-1].startswith("error: train.storage must be writable")
    assert "Traceback" not in said
    disk[1]("rw")
    require_goes_on(site, undisturbed, {})


@pytest.mark.parametrize("seed", [90, 91])
def test_a_store_that_becomes_read_only_in_mid_sweep_ends_it_in_lines_and_later_it_goes_on(
    prepared, tmp_path, undisturbed, seed
):
    """A disk that is written can't be remounted, so its folders are made immutable."""
    site = Site(tmp_path).prepare(prepared)
    running = site.start()
    site.wait_for(running, random.Random(seed).randrange(1, 60))
    frozen = subprocess.run(["chattr", "-R", "+i", site.store], capture_output=True)
    try:
        said, _ = running.communicate(timeout=240)
    finally:
        subprocess.run(["chattr", "-R", "-i", site.store], check=False)
    if frozen.returncode:
        pytest.skip("only root can make a folder immutable, and on some file systems only")
    assert running.returncode != 0
    assert "Operation not permitted" in said
    assert "Traceback" not in said
    assert len(besides_progress(said)) < LINES
    require_goes_on(site, undisturbed, site.finished())
