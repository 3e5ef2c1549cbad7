"""The prepared data set: what the stages scan and prepare make of a collection."""

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import prepared_sets
import pytest
from PIL import Image

from latentmill.config import DataConfig
from latentmill.data import dataset, sources
from latentmill.data import listing as listing_module
from latentmill.data.listing import listing
from latentmill.data.preparation.prepare import prepare
from latentmill.data.preparation.sufficiency import too_small_for
from latentmill.errors import InputError

PIPELINE = Path(__file__).parents[1] / "pipeline"
PARAMS = "data: {source: %s, path: %s}\ntrial: {}\ntrain: {}\nladder: {vae: {}}\nevaluation: {}\nexport: {}\n"


def pictures(count: int, channels: int = 3, side: int = 24, seed: int = 0) -> Any:
    """Smooth images that differ, uint8 N×H×W×C."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 6, 6, channels)).astype(np.uint8)
    resized = [Image.fromarray(each.squeeze()).resize((side, side), Image.Resampling.BICUBIC) for each in coarse]
    return np.stack([np.asarray(each).reshape(side, side, channels) for each in resized])


def folder_of(root: Path, images: Any, classes: int = 2) -> Path:
    """Images as PNG files, dealt to folders of classes."""
    for number, image in enumerate(images):
        place = root / f"class {number % classes}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.squeeze()).save(place / f"{number}.png")
    return root


def prepared(folder: Path, **settings: Any) -> dict[str, Any]:
    folder.mkdir(parents=True)
    return prepare(DataConfig(**settings), folder, lambda what, done, total: None, processes=0)


def dropped(folder: Path) -> dict[str, str]:
    with (folder / "dropped.csv").open(newline="") as file:
        return {row["name"]: row["reason"] for row in csv.DictReader(file)}


def test_a_folder_becomes_arrays_labels_and_a_manifest(tmp_path: Path) -> None:
    images = pictures(100)
    path = folder_of(tmp_path / "images", images)
    manifest = prepared(tmp_path / "prepared", source="folder", path=str(path))
    assert manifest == dataset.read_manifest(tmp_path / "prepared")
    assert manifest["counts"] == {"train": 70, "val": 15, "test": 15}
    assert (manifest["shape"], manifest["classes"]) == ([3, 24, 24], ["class 0", "class 1"])
    known = {each.tobytes(): number for number, each in enumerate(images)}
    seen = []
    for name in dataset.SPLITS:
        arrays = dataset.read_split(tmp_path / "prepared", name)
        assert isinstance(arrays, np.memmap)
        numbers = [known[image.transpose(1, 2, 0).tobytes()] for image in arrays]
        labels = dataset.read_labels(tmp_path / "prepared", name)
        assert labels is not None
        assert labels.tolist() == [number % 2 for number in numbers]
        assert {key: of[name] for key, of in manifest["class_counts"].items()} == {
            f"class {label}": labels.tolist().count(label) for label in (0, 1)
        }
        seen += numbers
    assert sorted(seen) == list(range(100))
    assert dropped(tmp_path / "prepared") == {}
    with Image.open(tmp_path / "prepared/contact_sheet.png") as sheet:
        assert sheet.width > 16 * 24


def test_processes_make_the_same_of_it(tmp_path: Path) -> None:
    path = folder_of(tmp_path / "images", pictures(300))
    (path / "class 0" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    manifests = []
    for processes in (0, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        config = DataConfig(source="folder", path=str(path))
        manifests.append(prepare(config, folder, lambda what, done, total: None, processes))
    assert manifests[0] == manifests[1]
    assert list(dropped(tmp_path / "2")) == ["class 0/broken.png"]


def test_grey_images_become_one_channel_however_they_are_saved(tmp_path: Path) -> None:
    grey = pictures(60, channels=1)
    path = folder_of(tmp_path / "images", np.repeat(grey, 3, axis=3))
    assert prepared(tmp_path / "auto", source="folder", path=str(path))["shape"] == [1, 24, 24]
    assert prepared(tmp_path / "rgb", source="folder", path=str(path), channels="rgb")["shape"] == [3, 24, 24]
    assert prepared(tmp_path / "rgba", source="folder", path=str(path), channels="rgba")["shape"] == [4, 24, 24]
    assert (dataset.read_split(tmp_path / "rgba", "train")[:, 3] == 255).all()


def test_the_commonest_size_is_taken_or_the_one_that_is_asked_for(tmp_path: Path) -> None:
    path = folder_of(tmp_path / "images", [*pictures(40), *pictures(20, side=40, seed=1)])
    manifest = prepared(tmp_path / "common", source="folder", path=str(path))
    assert manifest["shape"] == [3, 24, 24]
    assert manifest["intake"]["sizes"] == {"24x24": 40, "40x40": 20}
    assert manifest["intake"]["conversions"] == {"reduced": 20}
    for fit in ("crop", "pad", "stretch"):
        found = prepared(tmp_path / fit, source="folder", path=str(path), size=[16, 32], fit=fit)
        assert found["shape"] == [3, 16, 32]


def test_a_limit_takes_images_at_random(tmp_path: Path) -> None:
    path = folder_of(tmp_path / "images", pictures(200), classes=4)
    counts = prepared(tmp_path / "few", source="folder", path=str(path), limit=80)["class_counts"]
    assert sum(sum(each.values()) for each in counts.values()) == 80
    assert len(counts) == 4


def test_too_many_unreadable_images_are_refused_with_the_commonest_reasons(tmp_path: Path) -> None:
    path = folder_of(tmp_path / "images", pictures(95))
    for number in range(5):
        (path / "class 0" / f"bad {number}.png").write_bytes(b"" if number else b"text")
    rule = r"at most 1.0% .*\(data.max_dropped\), but 5 of 100 images \(5.0%\) are: 4 x an empty file, 1 x not an image"
    with pytest.raises(InputError, match=rule):
        prepared(tmp_path / "strict", source="folder", path=str(path))
    manifest = prepared(tmp_path / "lenient", source="folder", path=str(path), max_dropped=0.05)
    assert manifest["intake"]["dropped"] == 5
    assert manifest["intake"]["reasons"] == {"an empty file": 4, "not an image of a known format": 1}
    assert len(dropped(tmp_path / "lenient")) == 5


@pytest.mark.parametrize("size", [None, 64])
def test_a_folder_without_images_is_called_one(tmp_path: Path, size: int | None) -> None:
    (tmp_path / "notes").mkdir()
    for number in range(5):
        (tmp_path / "notes" / f"{number}.txt").write_text("a caption")
    with pytest.raises(
        InputError, match=r"notes.* must hold images, but of 5 .*; 0\.txt: not an image of a known format"
    ):
        prepared(tmp_path / "prepared", source="folder", path=str(tmp_path / "notes"), size=size)


def test_files_that_are_no_images_by_name_are_named_but_do_not_count(tmp_path: Path) -> None:
    path = folder_of(tmp_path / "images", pictures(60))
    for number in range(60):
        (path / "class 0" / f"{number}.txt").write_text("a caption")
    (path / ".DS_Store").write_bytes(b"\0")
    manifest = prepared(tmp_path / "prepared", source="folder", path=str(path))
    assert manifest["intake"]["dropped"] == 61
    assert dropped(tmp_path / "prepared")[".DS_Store"] == "a hidden file"
    assert dropped(tmp_path / "prepared")["class 0/3.txt"] == "not an image of a known format"


@pytest.mark.parametrize(
    ("count", "settings", "rule"),
    [
        (5, {}, "val must have at least 2 images, but has 1 of 5 images, 0 dropped"),
        (1, {}, "train must have at least 2 images, but has 1 of 1 images"),
        (100, {"val": 0.01}, "val must have at least 2 images, but has 1 of 100"),
        (100, {"test": 0.001}, "test must have at least 2 images, but has 0 of 100"),
        (10, {"val": 0.45, "test": 0.45}, "train must have at least 2 images, but has 0 of 10"),
    ],
)
def test_splits_that_are_too_small_are_refused(tmp_path: Path, count: int, settings: Any, rule: str) -> None:
    np.save(tmp_path / "images.npy", pictures(count))
    with pytest.raises(InputError, match=rule):
        prepared(tmp_path / "prepared", source="arrays", path=str(tmp_path / "images.npy"), **settings)


def test_copies_that_leave_nothing_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.repeat(pictures(1), 99, axis=0))
    with pytest.raises(InputError, match=r"val .* but has 0 of 99 images, 15 dropped as copies"):
        prepared(tmp_path / "prepared", source="arrays", path=str(tmp_path / "images.npy"))


def test_small_data_is_said_to_be_small(tmp_path: Path) -> None:
    path = folder_of(tmp_path / "images", pictures(40))
    manifest = prepared(tmp_path / "prepared", source="folder", path=str(path))
    assert "(val and a third of train), but there are 15: both rules stay inconclusive" in manifest["too_small_for"][0]


def test_rare_classes_are_named_and_labels_of_rare_classes_alone_are_not_used(tmp_path: Path) -> None:
    path = folder_of(tmp_path / "images", pictures(60))
    folder_of(tmp_path / "images/more", pictures(3, seed=1), classes=1)
    manifest = prepared(tmp_path / "prepared", source="folder", path=str(path))
    assert manifest["classes"] == ["class 0", "class 1"], "the folder that an image lies in, however deep"
    (path / "more/class 0").rename(path / "rare")
    manifest = prepared(tmp_path / "named", source="folder", path=str(path))
    assert manifest["notes"] == ["classes with fewer than 10 images: rare (3)"]
    path = folder_of(tmp_path / "each its own", pictures(60), classes=60)
    manifest = prepared(tmp_path / "unused", source="folder", path=str(path))
    assert manifest["classes"] is None
    assert manifest["notes"] == ["labels are not used: fewer than 2 of 60 classes have 10 images"]


def test_numbers_are_ordered_by_value(tmp_path: Path) -> None:
    np.savez(tmp_path / "images.npz", images=pictures(120), labels=np.arange(120) % 12)
    manifest = prepared(tmp_path / "prepared", source="arrays", path=str(tmp_path / "images.npz"))
    assert manifest["classes"] == list(map(str, range(12)))


def test_digests_name_the_content(tmp_path: Path) -> None:
    images = pictures(100)
    digests = []
    for name in ("a", "b", "c"):
        if name == "c":
            images[7, 0, 0, 0] ^= 255
        np.save(tmp_path / f"{name}.npy", images)
        digests.append(prepared(tmp_path / name, source="arrays", path=str(tmp_path / f"{name}.npy")))
    first, again, other = digests
    assert first["digests"] == again["digests"]
    assert other["digest"] != first["digest"]
    assert len([name for name in dataset.SPLITS if other["digests"][name] != first["digests"][name]]) == 1


def test_other_labels_of_the_same_images_are_other_data(tmp_path: Path) -> None:
    """Or a conditional model would be taken for one of the new labels."""
    images, digests = pictures(100), {}
    for name, labels in (("a", np.arange(100) % 2), ("b", 1 - np.arange(100) % 2), ("c", np.arange(100) % 2 + 10)):
        np.savez(tmp_path / f"{name}.npz", images=images, labels=labels)
        digests[name] = prepared(tmp_path / name, source="arrays", path=str(tmp_path / f"{name}.npz"))
    assert all(digests["a"]["digests"][split] == digests["b"]["digests"][split] for split in dataset.SPLITS)
    assert digests["a"]["digest"] != digests["b"]["digest"]
    assert digests["a"]["digest"] == digests["c"]["digest"], "the names of classes train nothing"
    assert dataset.intact_digest(tmp_path / "a") == digests["a"]["digest"]


@pytest.mark.parametrize("read", [dataset.read_split, dataset.read_labels])
def test_reading_refuses_what_is_no_prepared_data_set(tmp_path: Path, read: Any) -> None:
    with pytest.raises(InputError, match=r"nowhere must hold a prepared data set.*run `dvc repro prepare`"):
        read(tmp_path / "nowhere", "train")
    images = pictures(6).transpose(0, 3, 1, 2)
    prepared_sets.write(tmp_path / "prepared", dict.fromkeys(dataset.SPLITS, images), {"train": [0, 1] * 3})
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


def run_stage(folder: Path, stage: str, source: str, path: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "params.yaml").write_text(PARAMS % (source, path), encoding="utf-8")
    command = [sys.executable, PIPELINE / f"{stage}.py"]
    known = os.environ | environment
    return subprocess.run(command, cwd=folder, env=known, capture_output=True, text=True, timeout=60, check=False)


def test_the_stage_writes_the_data_set_and_says_what_it_saw(tmp_path: Path) -> None:
    folder_of(tmp_path / "mine", pictures(100))
    done = run_stage(tmp_path, "prepare", "folder", "mine")
    assert (done.returncode, done.stderr) == (0, "")
    said = [line for line in done.stdout.splitlines() if "so far" not in line]  # on a busy machine
    assert said[:5] == [
        "images of the user, from mine: 100 files",
        "  formats: 100 PNG",
        "  modes: 100 RGB",
        "  sizes: 100 24x24",
        "  2 classes: class 0, class 1",
    ]
    manifest = json.loads((tmp_path / "data" / "prepared" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["source"] == "folder"
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["prepared"]


def test_a_stage_that_fails_says_why_in_one_line_and_spoils_nothing(tmp_path: Path) -> None:
    images = pictures(6).transpose(0, 3, 1, 2)
    before = prepared_sets.write(tmp_path / "data" / "prepared", dict.fromkeys(dataset.SPLITS, images))
    failed = run_stage(tmp_path, "prepare", "arrays", "mine.npy")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr == "error: mine.npy must exist, but there is no such file\n"
    assert dataset.read_manifest(tmp_path / "data" / "prepared") == before


def test_the_listing_changes_with_every_file(tmp_path: Path) -> None:
    path = folder_of(tmp_path / "mine", pictures(6))

    def listed() -> str:
        done = run_stage(tmp_path, "scan", "folder", "mine")
        assert (done.returncode, done.stderr) == (0, "")
        return (tmp_path / "data/listing.txt").read_text()

    seen = [listed()]
    changes = (
        lambda: (path / "class 0/0.png").write_bytes((path / "class 0/2.png").read_bytes()),
        lambda: (path / "class 0/2.png").unlink(),
        lambda: (path / "class 1/1.png").rename(path / "class 1/9.png"),
        lambda: (path / "class 1/new.png").write_bytes(b""),
    )
    for change in changes:
        assert listed() == seen[-1]
        change()
        seen.append(listed())
    assert len(set(seen)) == len(seen)
    assert len(seen[-1].splitlines()) == 6


def test_only_what_may_have_changed_is_read_again(tmp_path: Path) -> None:
    path = folder_of(tmp_path / "mine", pictures(6))
    long_ago = time.time_ns() - 10**10
    for file in path.rglob("*.png"):
        os.utime(file, ns=(long_ago, long_ago))
    files = sources.files(DataConfig(source="folder", path=str(path)))
    told: list[int] = []

    def digested() -> int:
        told.clear()
        listing(files, tmp_path / "cache.json", lambda what, done, total: told.append(done))
        return max(told, default=0)

    assert digested() == 6
    assert digested() == 6, "written so short ago that they may have changed since without a change of times"
    time.sleep(2.1)
    assert (digested(), digested()) == (6, 0)
    same_size = Path(files[0]).read_bytes()[::-1]
    Path(files[0]).write_bytes(same_size)
    os.utime(files[0], ns=(long_ago, long_ago))  # as a copying tool does, which leaves only ctime and inode to tell
    assert digested() == 1
    (tmp_path / "cache.json").write_text("{damaged")
    assert digested() == 6


def test_images_that_the_disk_has_no_room_for_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    path = folder_of(tmp_path / "images", pictures(60))
    free = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda folder: free)
        with pytest.raises(InputError, match=r"images need 1.51 GB, .* but there are 0.001 on the disk of"):
            prepared(tmp_path / "prepared", source="folder", path=str(path), size=2048)


def test_images_that_an_array_has_in_the_wanted_shape_are_used_where_they_are(tmp_path: Path) -> None:
    images = pictures(90)
    np.save(tmp_path / "mine.npy", images)
    settings = {"source": "arrays", "path": str(tmp_path / "mine.npy"), "limit": 80}
    free = shutil.disk_usage(tmp_path)._replace(free=80 * images[0].nbytes)  # which suffices for them once
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda folder: free)
        prepared(tmp_path / "used", **settings)
    with pytest.MonkeyPatch.context() as patch:
        for module in ("prepare", "intake"):
            patch.setattr(f"latentmill.data.preparation.{module}.usable", lambda collection, target: None)
        prepared(tmp_path / "copied", **settings)
    used, copied = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("used", "copied")
    )
    assert used == copied
    assert len(np.load(tmp_path / "used/train.npy")) == 56


def test_a_size_that_is_common_to_few_is_not_taken_for_all(tmp_path: Path) -> None:
    sizes = [pictures(1, side=20 + number, seed=number)[0] for number in range(50)]
    path = folder_of(tmp_path / "images", sizes)
    with pytest.raises(
        InputError, match=r"data.size must be set where no size is common: the commonest is that of 1 in 50"
    ):
        prepared(tmp_path / "prepared", source="folder", path=str(path))
    assert prepared(tmp_path / "sized", source="folder", path=str(path), size=32)["shape"] == [3, 32, 32]


def test_images_of_kinds_that_are_not_read_count(tmp_path: Path) -> None:
    path = folder_of(tmp_path / "images", pictures(60))
    (path / "class 0" / "photo.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(
        InputError, match=r"1 of 61 images .* not an image of a known format; the first is class 0/photo.HEIC"
    ):
        prepared(tmp_path / "prepared", source="folder", path=str(path))


@pytest.mark.parametrize("place", [os.mkfifo, Path.mkdir, lambda path: path.write_text("[" * 10**5)])
def test_a_cache_of_digests_that_is_something_else_is_made_anew(tmp_path: Path, place: Any) -> None:
    path, cache = folder_of(tmp_path / "images", pictures(3)), tmp_path / "cache.json"
    place(cache)
    files = sources.files(DataConfig(source="folder", path=str(path)))
    assert len(listing(files, cache, lambda what, done, total: None).splitlines()) == 3
    assert isinstance(json.loads(cache.read_text()), dict)


def test_images_that_change_between_their_listing_and_their_use_are_noticed(tmp_path: Path, monkeypatch: Any) -> None:
    """Or, once they are as before, what was made of others would count as made of them."""
    monkeypatch.chdir(tmp_path)
    path = folder_of(tmp_path / "images", pictures(3))
    config = DataConfig(source="folder", path=str(path))

    def require() -> None:
        listing_module.require_as_listed(config, lambda what, done, total: None)

    require()  # without a listing, as in a job, there is nothing to compare with
    listed = listing(sources.files(config), listing_module.CACHE, lambda what, done, total: None)
    (tmp_path / "data").mkdir()
    listing_module.LISTING.write_text(listed)
    require()
    changed = next(path.rglob("*.png"))
    before = changed.read_bytes()
    for content in (before[:-1] + b"x", None):
        changed.unlink() if content is None else changed.write_bytes(content)
        with pytest.raises(InputError, match="must stay the same while they are prepared, but changed: run again"):
            require()
        changed.write_bytes(before)
        require()


def test_what_is_refused_stands_in_the_listing_with_its_reason(tmp_path: Path) -> None:
    path = folder_of(tmp_path / "mine", pictures(2))
    config = DataConfig(source="folder", path=str(path))
    (path / "gone.png").symlink_to(tmp_path / "nowhere")
    os.mkfifo(path / "pipe.png")
    (path / "loop").symlink_to(path)
    Path(os.fsdecode(os.fsencode(path) + b"/\xff.png")).write_bytes(b"")
    lines = listing(sources.files(config), tmp_path / "cache.json", lambda what, done, total: None).splitlines()
    told = {line[77:].strip().rpartition("/")[2]: line[:64].strip() for line in lines}
    assert told['gone.png"'] == "unreadable: No such file or directory"
    assert told['pipe.png"'] == told['loop"'] == "no regular file"
    assert len(lines) == 6


def test_an_error_is_not_kept_in_a_digests_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"x")

    def refuse(*_: Any) -> Any:
        raise OSError(24, "Too many open files")

    def listed() -> str:
        return listing([path], tmp_path / "cache.json", lambda what, done, total: None)

    monkeypatch.setattr(listing_module, "RECENT", -(10**12))
    with monkeypatch.context() as patch:
        patch.setattr(listing_module, "open", refuse, raising=False)
        assert listed().startswith("unreadable: Too many open files")
    assert listed().startswith(sha256(b"x").hexdigest())


def test_what_is_dropped_while_listing_is_measured_against_all_images(tmp_path: Path) -> None:
    path = folder_of(tmp_path / "images", pictures(400, side=8))
    for number in range(4):
        (path / f"broken{number}.png").symlink_to(tmp_path / "nowhere")
    settings: dict[str, Any] = {"source": "folder", "path": str(path), "limit": 60}
    assert sum(prepared(tmp_path / "a", **settings)["counts"].values()) == 60
    (path / "broken.png").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"but 5 of 405 images \(1.2%\) are: 5 x unreadable"):
        prepared(tmp_path / "b", **settings)


def test_groups_that_leave_nothing_to_train_on_are_told(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=pictures(60, side=8), groups=np.arange(60) // 30)
    with pytest.raises(InputError, match=r"train must have at least 2 images, .*; each of 2 groups \(data.group\)"):
        prepared(tmp_path / "prepared", source="arrays", path=str(tmp_path / "a.npz"))


def test_which_training_images_belong_together_is_kept(tmp_path: Path) -> None:
    """Each image's group can be told from its corner."""
    images = pictures(80, side=8)
    images[:, 0, 0, 0] = np.arange(80) // 4
    for name, groups in (("with", {"groups": images[:, 0, 0, 0]}), ("without", {})):
        np.savez(tmp_path / f"{name}.npz", images=images, **groups)
        prepared(tmp_path / name, source="arrays", path=str(tmp_path / f"{name}.npz"))
    train, found = dataset.read_split(tmp_path / "with", "train"), dataset.read_groups(tmp_path / "with")
    assert found is not None
    assert len(found) == len(train)
    assert len(np.unique(found)) == len(np.unique(np.stack([train[:, 0, 0, 0], found]), axis=1).T) > 5
    assert dataset.read_groups(tmp_path / "without") is None


def test_the_few_images_without_a_label_are_dropped_and_many_end_the_use_of_labels(tmp_path: Path) -> None:
    path = folder_of(tmp_path / "images", pictures(120, side=8))
    for number, image in enumerate(pictures(2, side=8, seed=1)):
        Image.fromarray(image).save(path / f"logo{number}.png")
        manifest = prepared(tmp_path / str(number), source="folder", path=str(path))
        if number == 0:
            assert (manifest["classes"], manifest["notes"]) == (["class 0", "class 1"], [])
            assert dropped(tmp_path / "0") == {"logo0.png": "no label"}
            assert manifest["intake"]["reasons"] == {"no label": 1}
    assert (manifest["classes"], sum(manifest["counts"].values())) == (None, 122)
    said = "labels are not used: 2 of 122 images have no label, more than data.max_dropped lets drop"
    assert manifest["notes"] == [said]


def test_an_empty_cell_of_the_labels_costs_its_image_alone(tmp_path: Path) -> None:
    for number, image in enumerate(pictures(120, side=8)):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    rows = [f"{number}.png,{number % 2 if number else ''}" for number in range(120)]
    (tmp_path / "metadata.csv").write_text("file_name,label\n" + "\n".join(rows))
    assert prepared(tmp_path / "prepared", source="folder", path=str(tmp_path))["classes"] == ["0", "1"]
    assert dropped(tmp_path / "prepared")["0.png"] == "no label"


def test_the_hidden_colours_of_arrays_are_cleared(tmp_path: Path) -> None:
    images = pictures(60, channels=4)
    images[..., 3] = np.arange(24) % 2 * 255
    np.save(tmp_path / "a.npy", images)
    prepared(tmp_path / "prepared", source="arrays", path=str(tmp_path / "a.npy"), channels="rgba", background="black")
    kept = dataset.read_split(tmp_path / "prepared", "train")
    assert (kept[:, :3][..., ::2] == 0).all()
    assert kept[:, :3][..., 1::2].std() > 0


def test_names_of_classes_are_told_on_one_line_and_in_any_encoding(tmp_path: Path) -> None:
    images = pictures(60, side=8)
    for number, image in enumerate(images):
        place = tmp_path / "mine" / ("a\n\x1b[31mred", "🦊")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{number}.png")
    done = run_stage(tmp_path, "prepare", "folder", "mine", PYTHONIOENCODING="latin-1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "  2 classes: a [31mred, \\U0001f98a\n" in done.stdout


@pytest.mark.parametrize(("classes", "says"), [(20, "none for 0"), (21, "at most 20 classes, but there are 21: none")])
def test_with_many_classes_no_slider_leads_toward_any(classes: int, says: str) -> None:
    counts = {str(name): {"train": 3 if name == 0 else 12, "val": 2, "test": 2} for name in range(classes)}
    (said,) = too_small_for({"train": 9000, "val": 900, "test": 900}, counts)
    assert says in said
