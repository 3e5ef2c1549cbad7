"""`latentmill judge` and `latentmill.judge`: samples of anyone's generator, from any source, with honest verdicts."""

import io
import json
import re
import subprocess
import sys
import tomllib
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import prepared_sets
import pytest
import tiny
import torch
from PIL import Image

import latentmill
from latentmill import Decoder
from latentmill.cli import main
from latentmill.config import DataConfig
from latentmill.data import dataset
from latentmill.data.collection import Item
from latentmill.data.preparation import requirements
from latentmill.errors import InputError
from latentmill.evaluation import assembly, corruptions
from latentmill.evaluation.copy_kinds import KINDS, UNCHANGED
from latentmill.evaluation.copy_search import CopyFinder, search_copies
from latentmill.evaluation.judge import FEWEST
from latentmill.evaluation.pool import MANY, Pool
from latentmill.evaluation.prepared import PreparedData
from latentmill.judging import command, output, pairs, sources
from latentmill.judging import judge as judging
from latentmill.judging.intake import HELD_OUT, SAMPLES, TRAIN, ImageSet, read_sets
from latentmill.judging.prepared import prepared_images
from latentmill.judging.real_images import real_images
from latentmill.judging.renaming import ArgumentError
from latentmill.proportion import Found
from latentmill.report import judgement

ROOT = Path(__file__).parents[1]
COUNT = 300  # samples
FEW = 15  # of these, for which nothing is calibrated
COMMON = {0, 1, 2, 3, 4, 5, 6, 7}  # the classes that a generator without two of ten still makes


@pytest.fixture(scope="module")
def images(shuffled_digits):
    return shuffled_digits


@pytest.fixture(scope="module")
def train(images):
    return {"images": images[0][:900], "labels": images[1][:900]}


@pytest.fixture(scope="module")
def held_out(images):
    return {"images": images[0][900:1300], "labels": images[1][900:1300]}


@pytest.fixture(scope="module")
def new(images):
    """Real images that nobody has seen, as a perfect generator makes them."""
    return images[0][1300:]


@pytest.fixture(scope="module", autouse=True)
def one_calibration(without_curves):
    """Of the same images and numbers of samples, which also decide the pool, metrics are calibrated once.

    Damage has tests of its own.
    """
    known = {}

    @cache
    def made(key, seed, count, limits):
        return assembly.make_judge(known[key], None, seed, count, limits)

    def make_judge(data, names, seed, count, limits):
        images = [np.array(each) for each in (data.train, data.val, data.test)]
        key = (b"".join(each.tobytes() for each in images), data.flip)
        known[key] = PreparedData(*images, data.train_labels, data.val_labels, data.test_labels, flip=data.flip)
        return made(key, seed, count, limits)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judging, "make_judge", make_judge)
        yield


@pytest.fixture(scope="module")
def passing(new, train, held_out):
    return latentmill.judge(new[:COUNT], train, held_out)


@pytest.fixture(scope="module")
def copying(new, train, held_out):
    """A fifth are copies of training images."""
    made = np.concatenate([train["images"][:60], new[: COUNT - 60]])
    return latentmill.judge(made, train, held_out)


def statuses(found):
    return [found.record[f"rule_{rule}"]["status"] for rule in (1, 2)]


# Verdicts


def test_real_images_pass(passing):
    assert statuses(passing) == ["pass", "pass"]
    assert passing.status == "pass"
    assert judgement.headline(passing.record) == "The samples pass both rules."
    assert passing.record["copies"]["exact"] == 0
    assert passing.record["notes"] == []


def test_copies_fail_rule_2_and_are_named(copying):
    assert statuses(copying)[1] == "fail"
    assert copying.status == "fail"
    assert copying.record["copies"]["exact"] == 60
    for pair in copying.record["closest"]:
        sample, train = (int(re.fullmatch(r".*\[(\d+)\]", pair[side])[1]) for side in ("sample", "train"))
        assert (sample, pair["distance"]) == (train, 0), "the first samples are the first training images"
    said = judgement.copies_found(copying.record["copies"]).replace("\N{NO-BREAK SPACE}", " ")
    assert "60 of 300 samples (20 %) are training images" in said
    assert "only after" not in said, "the digits are too small for that"
    changed = copying.record["copies"] | {"near_after_changes": 12}
    assert "; 12 of the samples are so only after a small shift" in judgement.copies_found(changed)


def test_what_only_one_rule_fails_passes_where_only_the_other_is_required(new, train, held_out):
    made = corruptions.independent_pixels(new, np.random.default_rng(0), COUNT)
    found = latentmill.judge(made, train, held_out, require=[2])
    assert statuses(found) == ["fail", "pass"]
    assert found.status == "pass"
    with pytest.raises(InputError, match="required rules must be among 1, 2, but are"):
        latentmill.judge(made, train, held_out, require=[3])
    for wrong in ({"count": 0}, {"seed": -1}, {"size": 2}):
        with pytest.raises(InputError, match=f"{next(iter(wrong))}.* must be"):
            latentmill.judge(made, train, held_out, **wrong)


@pytest.mark.slow
def test_a_generator_without_two_classes_fails_rule_1(images, train, held_out):
    kept = images[0][1300:][np.isin(images[1][1300:], list(COMMON))]
    assert len(kept) >= COUNT
    assert statuses(latentmill.judge(kept[:COUNT], train, held_out))[0] == "fail"


@pytest.mark.parametrize(
    "kind", ["with 5 % noise", pytest.param("brighter or darker by up to 10 %", marks=pytest.mark.slow)]
)
def test_changed_copies_that_the_search_finds_fail_rule_2(kind, train, held_out):
    made = KINDS[kind](train["images"][:COUNT], np.random.default_rng(0))
    found = latentmill.judge(made, train, held_out)
    assert statuses(found)[1] == "fail"
    assert found.record["copies"]["near"] > COUNT / 2


def test_of_what_it_can_not_find_the_page_says_so(passing):
    by_name = {each.name: each for each in judgement.kinds(passing.record["copies"])}
    assert not by_name[UNCHANGED].missed
    assert by_name["mirrored"].missed
    assert by_name["mirrored"].highest == "", "any number of them may be among the samples"
    assert "mostly missed" in passing.page
    assert "not known" in passing.page


def test_only_of_what_is_mostly_missed_the_share_is_not_known():
    """All samples may be copies of a kind that the search finds."""
    counts = {"of": 500, "highest_share": 1.0}
    tried = [{"kind": UNCHANGED, "found": 500, **counts}, {"kind": "mirrored", "found": 3, **counts}]
    found, missed = judgement.kinds({"kinds": tried})
    assert (found.highest, found.missed) == ("100\N{NO-BREAK SPACE}%", False)
    assert (missed.highest, missed.missed) == ("", True)


@pytest.mark.slow
def test_mirrored_copies_are_found_where_the_generator_may_make_them(new, train, held_out):
    made = np.concatenate([train["images"][:60, :, :, ::-1], new[: COUNT - 60]])
    assert latentmill.judge(made, train, held_out).record["copies"]["exact"] == 0
    found = latentmill.judge(made, train, held_out, flip=True)
    assert found.record["copies"]["exact"] == 60
    assert found.record["closest"][0]["mirrored"]
    assert statuses(found)[1] == "fail"


@pytest.mark.slow
def test_without_held_out_images_the_result_is_weaker_and_says_so(new, train):
    """Images that were set aside are looked for too."""
    made = np.concatenate([train["images"][:150], new[: COUNT - 150]])
    found = latentmill.judge(made, train)
    assert found.record["known"]["set_aside"]
    assert (found.record["known"]["train"], found.record["known"]["held_out"]) == (720, 180)
    assert found.record["notes"][0].startswith("The result is weaker")
    assert found.record["known"]["searched"] == 900
    assert found.record["copies"]["exact"] == 150
    assert statuses(found)[1] == "fail"


def test_few_samples_are_inconclusive_and_told_how_many_there_must_be(new, train, held_out):
    found = latentmill.judge(new[:19], train, held_out)
    assert statuses(found) == ["inconclusive", "inconclusive"]
    assert "needs at least 20 samples, but there are 19" in found.record["rule_1"]["evidence"]
    assert judgement.headline(found.record) == "The judgement is inconclusive on Rule 1 and Rule 2."


@pytest.mark.parametrize("count", [4, 10, 58])
def test_too_few_held_out_images_are_inconclusive_and_told_how_many_there_must_be(count, new, images):
    """The 30 training images have no near-duplicates, so a third of them are drawn from too."""
    train, held_out = images[0][:30], images[0][900:1000]
    found = latentmill.judge(new[: FEW + 10], train, held_out[:count])
    assert statuses(found) == ["inconclusive", "inconclusive"]
    reason = f"a verdict needs at least 59 held-out images, but there are {count}"
    assert [found.record[f"rule_{rule}"]["evidence"] for rule in (1, 2)] == [reason] * 2
    assert "What each control showed" not in found.page


@pytest.mark.parametrize(("count", "few"), [(58, FEWEST - 1), (59, FEWEST)])
def test_so_many_held_out_images_are_enough(count, few, new, images, monkeypatch):
    def stop(data, names, seed, samples, limits):
        raise InputError(f"draws of {assembly.choose_pool(data, seed).draws(samples).few}")

    monkeypatch.setattr(judging, "make_judge", stop)
    with pytest.raises(InputError, match=f"draws of {few}$"):
        latentmill.judge(new[: FEW + 10], images[0][:30], images[0][900 : 900 + count])


@pytest.mark.slow
def test_held_out_images_that_were_trained_on_are_left_out(new, train, held_out):
    both = {name: np.concatenate([train[name][:100], held_out[name]]) for name in train}
    found = latentmill.judge(new[:FEW], train, both)
    assert found.record["known"]["left_out"] >= 100
    assert "held-out images were left out" in found.record["notes"][0]
    with pytest.raises(InputError, match="held-out images must be at least 4, but there are 0 and 900 that are copies"):
        latentmill.judge(new[:FEW], train, train)


@pytest.mark.slow
def test_the_same_input_has_the_same_result(passing, new, train, held_out):
    assert latentmill.judge(new[:COUNT], train, held_out).record == passing.record


# What was read, and what would have been found


@pytest.mark.parametrize("samples", [1, 300, 4_999, 5_000, 5_001, 7_000, 10_000, 12_345])
def test_metrics_read_almost_all_samples(samples):
    images = np.random.default_rng(0).integers(0, 256, (60, 1, 8, 8), np.uint8)
    size = Pool.chosen(images[:40], images[40:], None, seed=0).draws(samples).many
    assert size <= MANY
    assert samples - samples // size * size < samples / size
    assert 0 <= samples - samples // size * size <= samples // MANY


def test_of_none_found_the_bound_is_the_exact_one():
    for count in (100, 10_000):
        assert Found(0, count).highest() == pytest.approx(1 - 0.05 ** (1 / count))
        assert Found(count, count).lowest() == pytest.approx(0.05 ** (1 / count))
    assert (Found(0, 50).lowest(), Found(50, 50).highest()) == (0, 1)


def test_the_highest_share_of_copies_counts_those_that_are_missed(images):
    data = PreparedData(*np.split(images[0][:900], [700, 800]), None, None, None)
    found = search_copies(images[0][1300:], CopyFinder(data.train, data, seed=0))
    assert (found.exact.count, found.near.of) == (0, len(images[0][1300:]))
    sure, found.kinds["half"], found.kinds["none"] = found.highest_share(UNCHANGED), Found(250, 500), Found(0, 500)
    assert 3.6 / found.near.of < sure < 3.8 / found.near.of
    assert found.highest_share("half") == pytest.approx(found.near.highest(0.975) / Found(250, 500).lowest(0.975))
    assert found.highest_share("none") == 1


def test_every_kind_of_copy_is_seen_to_be_one():
    """It changes the image, but for the first, and less than another image would."""
    rng = np.random.default_rng(0)
    sheet = np.kron(rng.integers(0, 256, (20, 3, 4, 4)), np.ones((6, 6))).astype(np.uint8)
    for kind, make in KINDS.items():
        made = make(sheet, rng)
        made = made if made.dtype == np.uint8 else made * 255
        assert made.shape == sheet.shape
        difference = np.abs(made.astype(float) - sheet).mean((1, 2, 3))
        apart = np.abs(sheet.astype(float) - np.roll(sheet, 1, axis=0)).mean((1, 2, 3))
        assert (difference > 0).all() == (kind != UNCHANGED), kind
        assert (difference < apart).all() or kind == "mirrored", kind


# Sources


def written(folder, images, suffix="png"):
    folder.mkdir(parents=True)
    for index, image in enumerate(images):
        pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
        Image.fromarray(pixels).save(folder / f"{index:04}.{suffix}")
    return folder


def test_any_source_is_read_the_same(new, train, held_out, tmp_path):
    """Class folders of PNGs, .npz and .npy in place of arrays."""
    for label in np.unique(train["labels"]):
        written(tmp_path / "train" / str(label), train["images"][train["labels"] == label])
    np.savez(tmp_path / "held_out.npz", **held_out)
    np.save(tmp_path / "samples.npy", new[:FEW, 0] / np.float32(255))
    found = latentmill.judge(tmp_path / "samples.npy", tmp_path / "train", str(tmp_path / "held_out.npz")).record
    arrays = latentmill.judge(new[:FEW], train, held_out).record
    assert found["known"] == arrays["known"]
    assert found["images"]["samples"]["sha256"] == arrays["images"]["samples"]["sha256"]
    assert found["closest"][0]["train"].endswith(".png")
    distances = [[pair["distance"] for pair in each["closest"]] for each in (found, arrays)]
    assert distances[0] == pytest.approx(distances[1])


@pytest.mark.slow
def test_a_function_is_called_until_there_are_enough(new, train, held_out):
    asked = []

    def generate(count):
        asked.append(count)
        start = sum(asked[:-1]) % 100
        return torch.tensor(new[start : start + min(count, 100)] / 255, requires_grad=True)

    found = sources.samples(generate, "samples", COUNT, seed=0)
    assert asked == [300, 200, 100]
    np.testing.assert_array_equal(found.block(np.arange(100)), new[:100])
    assert latentmill.judge(lambda count: new[:count], train, held_out, count=FEW).record["copies"]["samples"] == FEW
    with pytest.raises(InputError, match="samples: all must have one shape"):
        sources.samples(lambda count: np.zeros((1, 8, 8 + count % 2)), "samples", 2, seed=0)


def test_an_export_is_sampled(tmp_path):
    folder = tiny.write(tmp_path / "tiny")
    drawn = np.rint(Decoder(folder).sample(30, seed=4).clip(0, 1) * 255)
    for source in (folder, folder / "generator.onnx", Decoder(folder)):
        found = sources.samples(source, "samples", 30, seed=4)
        np.testing.assert_array_equal(found.block(np.arange(30)), drawn)
        assert len(found.items) == 30
    (tmp_path / "other.onnx").write_bytes(b"")
    with pytest.raises(InputError, match="a generator must lie in its export"):
        sources.samples(tmp_path / "other.onnx", "samples", 30, seed=4)


def test_a_prepared_data_set_has_held_out_images(tmp_path, new, train, held_out):
    parts = {"train": train["images"], "val": held_out["images"][:200], "test": held_out["images"][200:]}
    labels = {"train": train["labels"], "val": held_out["labels"][:200], "test": held_out["labels"][200:]}
    prepared_sets.write(tmp_path / "prepared", parts, labels)
    found = latentmill.judge(new[:FEW], tmp_path / "prepared")
    known = found.record["known"]
    assert (known["train"], known["held_out"], known["set_aside"]) == (900, 400 - known["left_out"], False)
    assert known["classes"] == [str(digit) for digit in range(10)]
    assert found.record["closest"][0]["train"].startswith("train[")


def grouped(count, groups):
    """Images of random pixels; the first pixel of each is the number of its group."""
    images = np.random.default_rng(count).integers(0, 256, (count, 1, 8, 8), np.uint8)
    images[:, 0, 0, 0] = np.arange(count) % groups
    items = [Item(f"{row}", group=str(row % groups)) for row in range(count)]
    return ImageSet("random", images, items, {}, "", False)


def numbers(images):
    return set(images[:, 0, 0, 0].tolist())


@pytest.mark.parametrize("has_held_out", [True, False])
def test_the_images_of_a_group_stay_together(has_held_out, tmp_path):
    held_out = grouped(60, 10) if has_held_out else None
    data = real_images(grouped(120, 30), held_out, False, 0, tmp_path, lambda *of: None).data
    val, test = numbers(data.val), numbers(data.test)
    assert not val & test
    assert has_held_out or not numbers(data.train) & (val | test)
    assert (len(data.train), len(data.val), len(data.test)) == ((120, 30, 30) if has_held_out else (96, 12, 12))
    pairs = set(zip(data.train[:, 0, 0, 0].tolist(), data.train_groups.tolist(), strict=True))
    assert len(pairs) == len(numbers(data.train)) == len(set(data.train_groups))


def test_one_group_alone_can_not_be_divided(tmp_path):
    with pytest.raises(InputError, match="images of a group stay together, so there must be several groups"):
        real_images(grouped(60, 1), None, False, 0, tmp_path, lambda *of: None)


def test_a_prepared_data_set_has_its_groups(tmp_path):
    images = grouped(30, 30).images
    prepared_sets.write(tmp_path, {"train": images[:20], "val": images[20:25], "test": images[25:]})
    dataset.write_groups(tmp_path, np.arange(20) % 7)
    found = [item.group for item in prepared_images(tmp_path).items]
    assert found == [str(row % 7) for row in range(20)] + [None] * 10


def test_other_sizes_and_colours_are_made_the_same_and_the_result_says_so(new, train, held_out, tmp_path):
    large = np.repeat(np.repeat(np.repeat(new[:FEW], 2, 2), 2, 3), 3, 1)
    large[:, 0] //= 2  # in colour
    found = latentmill.judge(written(tmp_path / "large", large), train, held_out)
    assert (
        found.record["images"]["samples"]["shape"] == found.record["images"]["training images"]["shape"] == [3, 16, 16]
    )
    assert "The real images, but not the samples, were resized" in " ".join(found.record["notes"])
    assert "The samples are in colour, but real images are grey." in found.record["notes"]
    found = latentmill.judge(large, train, held_out, size=8)
    assert found.record["images"]["samples"]["shape"] == [3, 8, 8]
    assert "The samples, but not the real images, were resized" in " ".join(found.record["notes"])


@pytest.mark.parametrize("has_held_out", [True, False])
def test_the_disk_must_have_room_for_all_that_lies_there_at_once(
    has_held_out, new, train, held_out, tmp_path, monkeypatch
):
    """A mapped file that outgrows the disk ends the process."""
    known = {TRAIN: train["images"]} | ({HELD_OUT: held_out["images"]} if has_held_out else {})
    listed = {
        name: sources.images(np.float32(each / 255), name) for name, each in ({SAMPLES: new[:100]} | known).items()
    }

    def prepared(free):
        monkeypatch.setattr(requirements.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
        sets = read_sets(listed, DataConfig(source="arrays"), tmp_path, 0, lambda *of: None)
        real_images(sets[TRAIN], sets.get(HELD_OUT), False, 0, tmp_path, lambda *of: None)

    needed = 64 * (100 + 3 * 1_300 if has_held_out else 2 * 1_000)
    with pytest.raises(InputError, match="while they are prepared, but there are"):
        prepared(needed - 1)
    prepared(needed)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= needed + 1_024, "with the headers of the files"


# The command


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(["judge", *map(str, arguments)])
    return ended.value.code


@pytest.fixture
def files(tmp_path, new, train, held_out):
    np.savez(tmp_path / "train.npz", **train)
    np.savez(tmp_path / "held_out.npz", **held_out)
    np.save(tmp_path / "new.npy", new[:COUNT])
    np.save(tmp_path / "copies.npy", train["images"][:COUNT])
    np.save(tmp_path / "few.npy", new[:1])
    return tmp_path


@pytest.mark.parametrize(
    ("samples", "require", "status"), [("new", "both", 0), ("copies", "rule2", 1), ("few", "both", 2)]
)
def test_the_exit_status_is_the_verdict(samples, require, status, files, capsys):
    known = ("--train", files / "train.npz", "--held-out", files / "held_out.npz", "--require", require)
    assert run("--samples", files / f"{samples}.npy", *known, "--out", files / "out") == status
    said = capsys.readouterr().out
    assert re.search(r"^Rule 1, .*: (pass|fail|inconclusive)$", said, re.MULTILINE)
    assert "Copies: " in said
    record = json.loads((files / "out/judgement.json").read_text())
    assert {0: "pass", 1: "fail", 2: "inconclusive"}[status] == record["status"]
    assert record["required"] == ([2] if require == "rule2" else [1, 2])
    assert "<!doctype html>" in (files / "out/judgement.html").read_text()


@pytest.mark.parametrize(
    ("samples", "known", "message"),
    [
        ("new.npy", "missing", "training images: there must be a folder, .* but there is nothing: '.*missing'"),
        ("new.npy", "notes.txt", "but there is a file of another kind: '.*notes.txt'"),
        ("new.npy", "few.npy", "training images must be at least 6, but there are 1$"),
        (
            "new.npy",
            "five.npy",
            r"must be at least 6, but there are 4: a fifth \(1\) of all is set aside",
        ),
        ("new.npy", "seven.npy", r"held-out images must be at least 4, but there are 1: a fifth \(1\) of all is set"),
        ("empty", "train.npz", "samples: .* must hold at least 1 image, but holds none"),
        ("broken", "train.npz", "samples: .* must hold images, but of 3 none can be read"),
        ("ints.npy", "train.npz", "samples: .* must lie within 0..255, but got values from 0 to 70000"),
        ("", "train.npz", "the output must be a folder apart from those of the images"),
    ],
)
def test_bad_input_is_one_line_and_status_2(samples, known, message, files, capsys):
    (files / "empty").mkdir()
    (files / "broken").mkdir()
    for index in range(3):
        (files / f"broken/{index}.png").write_bytes(b"\x89PNG and no more")
    (files / "notes.txt").write_text("no images")
    np.save(files / "five.npy", np.load(files / "new.npy")[:5])
    np.save(files / "seven.npy", np.load(files / "new.npy")[:7])
    np.save(files / "ints.npy", np.full((30, 8, 8), 70_000) * np.arange(2).repeat(15)[:, None, None])
    assert run("--samples", files / samples, "--train", files / known, "--out", files / "out") == 2
    said = capsys.readouterr().err
    assert re.search(message, said, re.MULTILINE), said
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert not (files / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "option", "argument"),
    [
        ({"labels": "kind"}, "--labels must be a column of the metadata of", "labels must be a column of the metadata"),
        ({"labels": 3}, "--labels 3 needs images 3 folders deep", "labels=3 needs images 3 folders deep"),
        ({"labels": ""}, "--labels must be the name of a column", "labels must be the name of a column"),
        ({"size": 3}, "--size must be a side", "size must be a side"),
        ({"limits": {"foo": 1}}, "--limit: unknown key 'foo'", "limits: unknown key 'foo'"),
        ({"seed": -1}, "--seed must be at least 0", "seed must be at least 0"),
        ({"count": 5}, "--count must be left out for samples that", "count must be left out for samples that"),
    ],
)
def test_errors_name_options_on_the_command_line_and_arguments_in_python(
    arguments, option, argument, new, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "photos", new[:3])
    (key, value), *_ = arguments.items()
    given = ["--limit", "foo=1"] if key == "limits" else [f"--{key}", value]
    assert run("--samples", "photos", "--train", "photos", *given) == 2
    assert re.search(f"^error: (training images: )?{option}", said := capsys.readouterr().err), said
    with pytest.raises(InputError, match=f"^(training images: )?{argument}"):
        latentmill.judge("photos", "photos", **arguments)


def test_the_size_of_large_samples_is_asked_for_by_its_option():
    error = ArgumentError("samples: data.size must be set, for example data.size: 64", "size", "data.size")
    assert str(error) == "samples: size must be set, for example size=64"
    assert str(error.of_option) == "samples: --size must be set, for example --size 64"


@pytest.mark.parametrize(
    "path",
    ["/home/me/data.labels/a.png", "/home/me/data.label/a.png", "'data.label'", "data.label/a.png", "a/data.label"],
)
def test_a_path_or_value_that_has_the_letters_of_a_setting_stays_as_it_is(path):
    error = ArgumentError(
        f"data.label must be a level of folders or null, but got {path}: or null", "labels", "data.label"
    )
    assert str(error.of_option) == f"--labels must be a level of folders or none, but got {path}: or null"
    with pytest.raises(InputError, match="a column") as found, sources._named("samples"):
        raise InputError(f"{path} must have a column")
    assert not isinstance(found.value, ArgumentError)
    assert str(found.value) == f"samples: {path} must have a column"


@pytest.mark.parametrize("option", ["--samples", "--train", "--held-out"])
def test_an_empty_name_is_refused(option, capsys):
    """As of a variable of the shell that is not set."""
    named = {"--samples": "digits", "--train": "digits"} | {option: ""}
    assert run(*(part for pair in named.items() for part in pair)) == 2
    assert re.search("^error: .* must name a folder or file, but got an empty name", capsys.readouterr().err)


@pytest.mark.parametrize("samples", [lambda count: 5, np.zeros(5), np.zeros((0, 8, 8))])
def test_what_images_are_called_is_said_once(samples):
    with pytest.raises(InputError, match=r"^samples(: images)? must (?!.*samples)"):
        sources.samples(samples, "samples", 5, seed=0)


def test_an_output_that_can_not_be_written_is_refused(passing, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="the output must be a folder that can be written"):
        passing.write(tmp_path / "file")


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("file", "a folder that can be written, but got '.*file': File exists"),
        ("file/below", "a folder that can be written, but got '.*below': Not a directory"),
        ("", "a folder that can be written, but its name is empty"),
        ("photos", "a folder apart from those of the images"),
        ("photos/judgement", "a folder apart from those of the images"),
    ],
)
def test_an_output_that_can_not_be_used_is_refused_before_images_are_read(out, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "judge", None)
    (tmp_path / "file").write_text("")
    (tmp_path / "photos").mkdir()
    assert run("--samples", "samples.npy", "--train", "photos", "--out", out) == 2
    assert re.search(f"^error: the output must be {message}", capsys.readouterr().err)
    assert sorted(each.name for each in tmp_path.rglob("*")) == ["file", "photos"]


def test_the_check_of_an_output_leaves_nothing(tmp_path):
    (tmp_path / "photos").mkdir()
    assert output.require_usable(tmp_path, [str(tmp_path / "photos")]) == tmp_path
    (tmp_path / "photos").rmdir()
    out = output.require_usable(tmp_path / "new/folder", ["digits", None, ""])
    assert (out, list(tmp_path.iterdir())) == (tmp_path / "new/folder", [])


# The page


def test_the_page_is_small_and_needs_nothing_else(copying):
    page = copying.page
    assert len(page.encode()) < 5e6
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", page)
    assert "<script" not in page
    assert "default-src 'none'" in page
    assert page.count("<figure><img") == len(copying.record["closest"]) == 16


def test_pictures_of_large_images_are_reduced():
    picture = pairs.sheet(np.random.default_rng(0).integers(0, 256, (4, 3, 500, 250), np.uint8), 4)
    with Image.open(io.BytesIO(picture)) as image:
        assert pairs.LARGEST < image.height < pairs.LARGEST + 10


def test_the_page_counts_the_real_images_that_it_shows_and_those_that_were_searched(passing):
    few = replace(passing.pictures, real_count=5)
    assert "5 held-out images, unselected" in judgement.render(passing.record, few)
    searched = {"searched": 250_000, "searched_after_changes": 100_000, "flip": True}
    large = passing.record | {"known": passing.record["known"] | searched}
    words = " ".join(judgement.render(large, few).split())
    assert "searched for among all 250 000 training images, and among their mirror images; " in words
    assert "after small changes, among 100 000 of them." in words


def test_names_of_files_can_not_run(passing):
    hostile = "<script>alert(1)</script>"
    record = json.loads(json.dumps(passing.record))
    record["closest"][0]["sample"], record["notes"] = hostile, [hostile]
    record["images"]["samples"]["description"] = hostile
    assert hostile not in judgement.render(record, passing.pictures)


def test_every_control_is_named_with_the_metrics_that_fail_it(passing):
    found = {(each.rule, each.name): each for each in judgement.controls(passing.record)}
    assert found["1", "independent pixels"].detected_by
    assert found["2", "training images"].detected_by
    assert not found["2", "held-out images"].detected_by
    assert found["2", "held-out images"].positive


def test_a_control_that_can_only_be_excluded_is_not_called_invisible(passing):
    record = json.loads(json.dumps(passing.record))
    for metric in record["calibration"]["rules"]["1"]["metrics"]:
        metric["detects"].pop("one class dropped", None)
        metric["separates"] = {"one class dropped": 0.5} if metric["metric"] == "recall" else {}
    (found,) = (each for each in judgement.controls(record) if each.name == "one class dropped")
    assert not found.detected_by
    assert "recall (pixels)" in found.excluded_by
    page = judgement.render(record, passing.pictures)
    assert f"none, but samples pass only if they differ from it by {', or '.join(found.excluded_by)}<" in page


# What it needs

BLOCKED = ("ray", "dvc", "matplotlib", "optuna", "mlxtend", "torchmetrics", "onnx", "onnxscript", "fsspec")


@pytest.mark.slow
def test_it_runs_without_ray_and_dvc(files):
    program = f"""
import sys
sys.modules |= dict.fromkeys({BLOCKED!r})
import latentmill
assert "torch" not in sys.modules and "latentmill.judging" not in sys.modules
found = latentmill.judge({str(files / "few.npy")!r}, {str(files / "train.npz")!r}, {str(files / "held_out.npz")!r})
assert found.status == "inconclusive" and "<html" in found.page
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120, cwd=files)


def test_its_extra_has_neither_ray_nor_dvc():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert not {re.split(r"\W", each)[0] for each in extras["judge"]} & {"ray", "dvc", "matplotlib"}
    assert "latentmill[judge]" in extras["pipeline"]
