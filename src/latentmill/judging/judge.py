"""Samples of anyone's generator, judged by both rules: `latentmill.judge` and the command of the same name."""

import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from latentmill.config import DataConfig, LimitsConfig, checked
from latentmill.data.collection import OnProgress
from latentmill.errors import InputError
from latentmill.evaluation.assembly import make_judge
from latentmill.evaluation.copy_search import CopyFinder, search_copies
from latentmill.evaluation.copy_space import AlignedSpace
from latentmill.evaluation.metrics import RULES
from latentmill.evaluation.verdict import Status
from latentmill.files import write_json, write_text
from latentmill.judging import sources
from latentmill.judging.intake import HELD_OUT, SAMPLES, TRAIN, ImageSet, Json, read_sets
from latentmill.judging.output import RULE
from latentmill.judging.pairs import Pictures, pictures
from latentmill.judging.real_images import real_images
from latentmill.judging.record import Facts, record
from latentmill.judging.renaming import ArgumentError, argument_errors
from latentmill.report.judgement import render
from latentmill.runtime.cores import cores
from latentmill.threads import steps_at_a_time

RECORD, PAGE = "judgement.json", "judgement.html"


@dataclass(frozen=True, eq=False)
class JudgedSamples:
    """The verdicts on samples, and all that they rest on."""

    record: Json  # what docs/judge.md describes
    pictures: Pictures

    @property
    def status(self) -> Status:
        """Of the required rules together: pass if all do, fail if one does."""
        found: Status = self.record["status"]
        return found

    @property
    def page(self) -> str:
        """HTML that needs no other file."""
        return render(self.record, self.pictures)

    def write(self, folder: Path | str) -> None:
        """Write `judgement.json` and `judgement.html` into a folder, which is made if need be.

        Raises:
            InputError: they can't be written.
        """
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            write_json(Path(folder) / RECORD, self.record)
            write_text(Path(folder) / PAGE, self.page)
        except OSError as error:
            raise InputError(f"{RULE}, but got {str(folder)!r}: {error.strerror}") from None


def judge(
    samples: sources.Samples,
    train: sources.Images,
    held_out: sources.Images | None = None,
    *,
    labels: str | int | None = "auto",
    size: int | tuple[int, int] | None = None,
    count: int | None = None,
    flip: bool = False,
    require: Collection[int] = tuple(RULES),
    limits: Mapping[str, float] | None = None,
    seed: int = 0,
    processes: int = 0,
    progress: OnProgress = lambda *of: None,
) -> JudgedSamples:
    """Judge samples by both rules: they look drawn from the data, and are suitably different from the training images.

    Args:
        samples: what any source of images reads (a folder, an archive, a table, .npy or .npz), an array as `collection`
            of data/sources/arrays.py takes it, an export of latentmill, or a function of the number of images that
            makes images.
        train: the images that the generator was trained on, from any source; or the data set that `prepare` wrote.
        held_out: images of the same kind that it was not trained on. Without them those that the source of `train`
            holds out, or else a fifth of `train`, and the result is weaker.
        labels: of `train` and `held_out`: the column or the level of folders that names classes; None: no classes.
        size: height and width in pixels of all images; None: those of the samples.
        count: how many images a generator makes; None: 10,000.
        flip: the generator saw mirrored images too, and may have copied them.
        require: the rules that `status` is about.
        limits: the damage to real images from which on samples fail, as `evaluation.limits` of params.yaml; those that
            are left out have their defaults.
        seed: of all draws: the same input has the same result.
        processes: that decode files at a time; 0: this one.
        progress: called now and then with what is done, how much of it, and the total.

    Raises:
        InputError: something is no image, there are too few, or an argument breaks its rule.
    """
    if not set(require) <= RULES.keys() or not require:
        raise InputError(f"the required rules must be among {', '.join(map(str, RULES))}, but are {list(require)}")
    for name, value, least in (("count", count, 1), ("seed", seed, 0)):
        if value is not None and value < least:
            raise ArgumentError(f"{name} must be at least {least}, but got {value}", name, name)
    with argument_errors("limits", "limits"):
        chosen = checked(LimitsConfig, dict(limits or {}), "limits")
    config = _data_config("size", "size", list(size) if isinstance(size, tuple) else size)
    _data_config("labels", "label", labels)
    collections = {
        SAMPLES: sources.samples(samples, SAMPLES, count, seed),
        TRAIN: sources.images(train, TRAIN, labels),
    }
    if held_out is not None:
        collections[HELD_OUT] = sources.images(held_out, HELD_OUT, labels)
    with tempfile.TemporaryDirectory(prefix="latentmill-judge-") as scratch:
        sets = read_sets(collections, config, Path(scratch), processes, progress)
        return _judged(sets, flip, require, chosen, seed, Path(scratch), progress)


def _data_config(argument: str, key: str, value: Any) -> DataConfig:
    """With the value of an argument, that params.yaml calls `key`."""
    with argument_errors(argument, f"data: {key}"):
        return checked(DataConfig, {"source": "arrays", key: value}, "data")


def _judged(
    sets: dict[str, ImageSet],
    flip: bool,
    require: Collection[int],
    limits: LimitsConfig,
    seed: int,
    folder: Path,
    progress: OnProgress,
) -> JudgedSamples:
    real = real_images(sets[TRAIN], sets.get(HELD_OUT), flip, seed, folder, progress)
    found = sets[SAMPLES]
    order = np.random.default_rng(seed).permutation(len(found.images))  # on disk they may be sorted by class
    made = np.asarray(found.images)[order]
    progress("calibrating the metrics on controls", 0, 0)
    judge = make_judge(real.data, None, seed, len(made), limits)
    judge.draws = replace(judge.draws, given=real.held_out)
    progress("judging the samples, and looking for copies", 0, 0)
    aligned = next((each for each in judge.spaces[2] if isinstance(each, AlignedSpace)), None)
    with steps_at_a_time(cores()) as steps:
        finder = steps.submit(CopyFinder, real.train, real.data, seed, aligned)
        judgement = steps.submit(judge.judge, made).result()
    copies = search_copies(made, finder.result())
    names = [found.items[row].name for row in order]
    facts = Facts(sets, real, judge, judgement, copies, names)
    return JudgedSamples(record(facts, require, seed), pictures(made, real, copies))
