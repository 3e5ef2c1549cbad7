"""Files of the trial store that are not what was written: told in a line, redone, and nothing else is."""

import json
import random
from pathlib import Path

import pytest
from sites import Site

pytestmark = pytest.mark.faults
KINDS = ("checkpoint-*", "model.safetensors", "trial.json")
WAYS = ("empty", "truncated", "flipped", "another's")
DAMAGE = [(kind, way, seed) for seed, (kind, way) in enumerate(((k, w) for k in KINDS for w in WAYS), start=60)]


@pytest.fixture(scope="module")
def half_done(prepared, tmp_path_factory):
    """A site whose sweep was killed with two trials finished and some on their way."""
    site = Site(tmp_path_factory.mktemp("half")).prepare(prepared)
    running = site.start()
    site.wait(running, lambda: len(site.weights()) >= 2 and site.epochs())
    for process in site.processes():  # workers that outlive their driver would finish their trials
        process.kill()
    running.communicate()
    assert site.epochs()
    return site


def damage(path: Path, way: str, draw: random.Random) -> None:
    """Change the file so that it says something else."""
    content = bytearray(path.read_bytes())
    place = draw.randrange(len(content))
    if way == "flipped":
        content[place] ^= 1 << draw.randrange(8)
        if path.suffix == ".json" and same_json(path.read_bytes(), bytes(content)):
            return damage(path, way, draw)
    others = sorted(other for other in path.parent.parent.glob(f"*/*{path.suffix}") if other != path)
    changed = {
        "empty": lambda: b"",
        "truncated": lambda: content[:place],
        "flipped": lambda: content,
        "another's": lambda: draw.choice(others).read_bytes(),
    }
    return path.write_bytes(changed[way]()) and None


def same_json(one: bytes, other: bytes) -> bool:
    """As 1e-5 and 1E-5 are."""
    try:
        return json.loads(one) == json.loads(other)
    except ValueError:
        return False


@pytest.mark.parametrize(("kind", "way", "seed"), DAMAGE)
def test_what_is_damaged_is_told_in_a_line_and_redone(half_done, tmp_path, undisturbed, kind, way, seed):
    site, draw = half_done.copied(tmp_path), random.Random(seed)
    path = draw.choice(sorted(site.store.glob(f"*/{kind}")))
    damage(path, way, draw)
    others = {file: stamp for file, stamp in site.finished().items() if file.parent != path.parent}
    (line,) = [line for line in site.run_anew().splitlines() if path.parent.name in line]
    assert "redone" in line
    assert site.weights() == undisturbed.weights()
    assert others.items() <= site.finished().items()


@pytest.mark.parametrize("kind", KINDS[1:])
def test_what_is_gone_is_redone(half_done, tmp_path, undisturbed, kind):
    site = half_done.copied(tmp_path)
    random.Random(kind).choice(sorted(site.store.glob(f"*/{kind}"))).unlink()
    site.run_anew()
    assert site.weights() == undisturbed.weights()


@pytest.mark.parametrize("seed", [80, 81])
def test_a_store_in_which_every_file_is_damaged_is_redone(half_done, tmp_path, undisturbed, seed):
    site, draw = half_done.copied(tmp_path), random.Random(seed)
    trials = {path.parent.name for path in site.store.glob("*/*")}
    for path in sorted(site.store.glob("*/*")):
        damage(path, draw.choice(WAYS[:3]), draw)
    said = site.run_anew()
    assert {trial: sum(trial in line for line in said.splitlines()) for trial in trials} == dict.fromkeys(trials, 1)
    assert site.weights() == undisturbed.weights()
