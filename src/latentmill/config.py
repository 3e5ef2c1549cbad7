"""params.yaml as checked, frozen models: an unknown key or a wrong value ends the run before it starts.

The hyperparameters of an entry are checked later, against the `Config` of its model, because this module knows no
model.
"""

import math
import os
import re
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast, get_args

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError, field_validator

from latentmill.errors import InputError, escaped, shown
from latentmill.yaml_file import LARGEST, parse_yaml, values

M = TypeVar("M", bound=BaseModel)
NOT_SEARCHABLE = object()  # marks a hyperparameter under whose values criteria do not compare
LoggerName = Literal["tensorboard", "mlflow"]
ChampionMetric = Literal["frechet_distance", "kernel_distance", "precision", "recall", "density", "coverage"]
FormatName = Literal["fp16", "int8", "uint8"]
AugmentationName = Literal["flip", "shift"]
RENAMED = {"export.allow_broken": "export.allow_failing", "export.forms": "export.formats"}  # keys of earlier versions
RENAMED_IN_ENTRIES = {"variant": "model"}
AUTO, OWN = "auto", "own"  # the best of an entry's priors; what a model draws by itself
FEATURES = re.compile(r"pixels|classifier|self-supervised|timm:.+")
ENTRY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")  # names of the ladder's entries
RESERVED = "champion"  # a folder of exports beside those of the entries
OUTPUTS = ("data/prepared", "models", "evaluation", "graphs", "exports", "report")  # folders that stages replace
MOST_MISTAKES = 8  # mistakes in one message
MIN_SIDE = 4  # pixels; the smallest image that the convolutions can halve twice
MAX_SIDE = 4096  # far beyond what can be trained here; above, a slip of the pen
PositiveInt = Annotated[int, Field(ge=1, le=2**53)]  # whole numbers that floats hold too
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Sentence = Annotated[str, Field(min_length=1)]


@dataclass(frozen=True)
class OnlyWith:
    """Marks a hyperparameter that has an effect only where another one, `key`, has one of some values."""

    key: str
    values: Container[Any]
    words: str  # the values, in an error


class Settings(BaseModel):
    """What every configuration shares: frozen, no unknown keys, no silent conversion of text to numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


SourceName = Literal["folder", "archive", "table", "arrays", "mnist-5k", "digits", "fashion-mnist", "sprites"]
Rgb = tuple[int, int, int]


def _column_or_level(value: Any) -> str | int | None:
    if value is None or (isinstance(value, str) and value) or (type(value) is int and value > 0):
        return value
    raise ValueError("must be the name of a column, a level of folders from 1, or null")


def _height_and_width(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    sides = [value, value] if type(value) is int else value
    if isinstance(sides, list) and len(sides) == 2 and all(map(_is_side, sides)):
        return sides[0], sides[1]
    raise ValueError(f"must be a side or [height, width], each a whole number of pixels from {MIN_SIDE} to {MAX_SIDE}")


def _is_side(value: Any) -> bool:
    return type(value) is int and MIN_SIDE <= value <= MAX_SIDE


def _colour(value: Any) -> Rgb:
    from PIL import ImageColor  # here, because the workers that train need none of it

    rgb = value
    if (isinstance(value, str) and value.lower() in ImageColor.colormap) or str(value).startswith("#"):
        rgb = list(ImageColor.getrgb(value)[:3])
    if isinstance(rgb, list) and len(rgb) == 3 and all(type(each) is int and 0 <= each <= 255 for each in rgb):
        return rgb[0], rgb[1], rgb[2]
    raise ValueError("must be a colour such as white, '#ff8800' or [255, 136, 0]")


# As unions, their errors would name pydantic's parts.
Column = Annotated[str | int | None, PlainValidator(_column_or_level)]
Size = Annotated[tuple[int, int] | None, PlainValidator(_height_and_width)]
Colour = Annotated[Rgb, PlainValidator(_colour)]


class DataConfig(Settings):
    """Where images come from, what is made of them, and how they are split."""

    source: SourceName  # your images, or a data set that comes with a package
    path: str | None = None  # the folder, file or pattern of your images; fashion-mnist: the folder of the IDX files
    image: Annotated[str, Field(min_length=1)] = "image"  # table: the column of images
    label: Column = "auto"  # the column, or the level of folders, that has the classes; null: no labels
    factors: list[str] = []  # table: columns of what varies from image to image, such as shape or pose
    group: Column = None  # that of groups, each of which stays in one split, such as one person's images
    splits: Literal["random", "folders"] = "random"  # folders: train/, val/ and test/ are the splits
    size: Size = None  # height and width, of all images; null: the commonest
    fit: Literal["crop", "pad", "stretch"] = "crop"  # of an image of other proportions
    channels: Literal["auto", "grey", "rgb", "rgba"] = "auto"  # auto: rgb unless all images are grey
    background: Colour = (255, 255, 255)  # behind transparent pixels, beside padded images
    white: PositiveInt | None = None  # arrays: the value of white; null: 255 of integers, 1 of others
    limit: PositiveInt | None = None  # images, at most, drawn at random
    max_dropped: Annotated[float, Field(ge=0, le=1)] = 0.01  # share of images that may be unreadable
    drop_near_duplicates: bool = True  # from val and test, if an earlier split has nearly the same image
    val: Fraction = 0.15  # share of the images kept for choices: early stopping, winners
    test: Fraction = 0.15  # share kept for reporting; a source with a test set of its own uses that one
    seed: Seed = 0  # of the shuffle before the split


def _augmentations(value: Any) -> list[str]:
    known = get_args(AugmentationName)
    if isinstance(value, list) and all(each in known for each in value):
        return [name for name in known if name in value]
    raise ValueError(f"must be a list of {', '.join(known)}, or []")


Augmentations = Annotated[list[AugmentationName], PlainValidator(_augmentations)]  # each at most once, in one order


class TrainingConfig(Settings):
    """How one trial is optimised; a ladder entry may override or search each of these."""

    epochs: PositiveInt = 100  # at most
    max_steps: PositiveInt = 12_000  # batches; the epoch that reaches it is the last, so large data needs fewer epochs
    patience: PositiveInt = 20  # epochs without a better validation loss before the trial stops
    keep: Literal["best", "last"] = "best"  # the epoch whose weights are kept, best by its validation loss
    batch_size: PositiveInt = 100  # images per step
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3  # Adam's, at its highest
    schedule: Literal["constant", "cosine", "one-cycle"] = "constant"  # of the learning rate, over all steps allowed
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share of the steps in which the learning rate rises
    weight_decay: Annotated[float, Field(ge=0)] = 0.0  # decoupled from the gradient, as in AdamW
    clip: Annotated[float, Field(gt=0)] | None = None  # the largest norm of a step's gradient
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None  # decay of an average of the weights, which is kept
    precision: Literal["float32", "bfloat16"] = "float32"  # of the networks in training; all else is float32
    augment: Augmentations = []  # random changes of a model's training images: mirrored, moved by up to 1/16 of a side


class AshaConfig(Settings):
    """Early stopping across trials: asynchronous successive halving (Li et al. 2020), within each ladder entry."""

    grace: PositiveInt = 10  # epochs that every trial may have
    reduction: Annotated[int, Field(ge=2)] = 3  # one in so many goes on from `grace` times 1, reduction, reduction^2 …


def _pack_size(value: Any) -> int | str:
    if value in ("auto", "off") or (type(value) is int and value > 0):
        return cast(int | str, value)
    raise ValueError("must be auto, off or a whole number from 1")


PackSize = Annotated[int | str, PlainValidator(_pack_size)]  # as a union, its errors would name pydantic's parts
DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


def _seconds(value: Any) -> float | None:
    if value is None:
        return None
    found = DURATION.fullmatch(value) if isinstance(value, str) else None
    hours, minutes, seconds = (int(each or 0) for each in found.groups()) if found else (0, 0, value)
    if type(seconds) in (int, float) and 0 < (total := 3600.0 * hours + 60 * minutes + seconds) < math.inf:
        return total
    raise ValueError("must be a time such as 90s, 10m or 1h30m, a number of seconds, or null")


Duration = Annotated[float | None, PlainValidator(_seconds)]


class SweepConfig(Settings):
    """Which trials of the ladder are trained, and how they are spread over a machine or a cluster."""

    workers: PositiveInt | None = None  # trials at a time on this machine; null: one per CPU core
    gpus_per_trial: Annotated[float, Field(ge=0)] = 0.5  # where there is a GPU; 0 keeps trials on the CPU
    workers_per_trial: PositiveInt = 1  # that share each batch of a trial; one GPU each, if there are any
    pack: PackSize = "auto"  # trials that a worker packs: their steps are computed together
    compile: bool = False  # torch.compile: faster steps, after seconds of compiling in each worker and for each shape
    storage: Annotated[str, Field(min_length=1)] = ".latentmill/trials"  # the trial store: a folder or a URL
    warm_start: Annotated[str, Field(min_length=1)] | None = (
        None  # models of an earlier run, a folder or a URL, to go on from
    )
    seeds: Annotated[list[Seed], Field(min_length=1)] = [0]  # every configuration is trained with each seed
    search: Literal["random", "optuna"] = "random"  # how the entries with `samples` choose their configurations
    sampling_seed: Seed = 0  # of `uniform`, `loguniform` and `choice`
    asha: AshaConfig | None = None  # null: every trial may use all its epochs
    budget: Duration = None  # the steps of all trials are chosen so that together they take about that time
    max_trials: PositiveInt | None = None  # at most, all entries and seeds together
    max_seconds: Annotated[float, Field(gt=0)] | None = None  # then the sweep ends; the next run goes on from there
    loggers: list[LoggerName] = []  # where trials are logged, beside the trial store

    @field_validator("storage", "warm_start")
    @classmethod
    def _require_apart(cls, storage: str | None) -> str | None:
        """What lies below an output would be deleted with it."""
        if storage is None:
            return None
        place = Path(os.path.realpath(storage.removeprefix("file://")))
        below = [output for output in OUTPUTS if place.is_relative_to(os.path.realpath(output))]
        if below and ("://" not in storage or storage.startswith("file://")):
            raise ValueError(f"must lie outside of {below[0]}, which a stage replaces with all that is in it")
        return storage


class LimitsConfig(Settings):
    """Samples as bad as real images with this damage fail: a lower limit is stricter, and needs more images."""

    blur: Annotated[float, Field(gt=0)] | None = (
        None  # its standard deviation in pixels; null: 3/4 of a 28th of the longer side, at least 0.375
    )
    independent: Share = 1.0  # share of images whose pixels are independent
    lost: Share = 1.0  # share of a class, or of a cluster, that is missing
    copies: Share = 0.05  # share of training images among new ones
    noisy_copies: Share = 0.2  # the same, with a little noise


class EvaluationConfig(Settings):
    """What the evaluation compares, and how many draws it takes."""

    samples: PositiveInt = 10_000  # drawn under each prior of each entry, and judged
    importance_samples: PositiveInt = 1_000  # K of the importance-weighted bound
    temperatures: PositiveInt = 5_000  # of annealed importance sampling, for models with a partition function
    likelihood_images: Annotated[int, Field(ge=2)] = 250  # test images whose likelihood is computed, at most
    features: Annotated[list[str], Field(min_length=1)] | None = (
        None  # pixels, classifier, self-supervised, timm:<model>; null: pixels and a network
    )
    limits: LimitsConfig = LimitsConfig()  # samples as bad as real images with this damage fail
    seed: Seed = 0  # of samples, splits and what is fitted

    @field_validator("features")
    @classmethod
    def _require_names(cls, features: list[str] | None) -> list[str] | None:
        for name in features or []:
            if not FEATURES.fullmatch(name):
                raise ValueError(f"must be of pixels, classifier, self-supervised, timm:<model>, but one is {name!r}")
        return features


class ExportConfig(Settings):
    """What may be exported."""

    allow_failing: list[str] = []  # entries to export even if their samples fail Rule 2
    champion: ChampionMetric = "frechet_distance"  # the metric on validation images that ranks equal verdicts
    formats: dict[FormatName, Annotated[float, Field(gt=0)]] = {}  # more decoders; tolerance in levels of 255


class EntryConfig(Settings):
    """What a ladder entry says beside the hyperparameters that it sets or searches."""

    model: str  # by default the name of the entry
    samples: int | None = None  # configurations to draw, where hyperparameters are sampled
    # of the section `priors`, trained on its winner's codes; null: the default for its codes, or the model's own
    priors: list[str] | None = None
    prior: str = AUTO  # the exported one; auto: the nearest to the validation images that doesn't fail Rule 2
    rank_by: Literal["criterion", "distance"] | None = None  # null: by the criterion, if the model has one
    evaluation_samples: PositiveInt | None = None  # drawn from it and judged; null: evaluation.samples
    adds: Sentence | None = None  # what it adds to simpler models, for the report; null: as its model's docstring says
    lacks: Sentence | None = None  # what it still can't do; null: as its model's docstring says


class Params(Settings):
    """The whole of params.yaml."""

    note: str = ""  # of whoever runs this: at the top of the report, and printed by `latentmill check`
    data: DataConfig
    trial: TrainingConfig
    priors: dict[str, dict[str, Any]] = {"normal": {}}  # what codes are drawn from: name -> its search space
    ladder: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]  # entry name -> its search space
    train: SweepConfig
    evaluation: EvaluationConfig
    export: ExportConfig

    @field_validator("ladder", "priors")
    @classmethod
    def _require_finite(cls, spaces: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Also the bounds of what is sampled, which no field of a `Config` checks."""
        for value in values(spaces):
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"must have finite numbers, but has {value}")
        return spaces

    @field_validator("priors")
    @classmethod
    def _require_other_name(cls, priors: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        if OWN in priors:
            rule = f"a prior must not be called {OWN}, as that of a model that has learned one itself"
            raise ValueError(f"{rule}, but one is")
        return priors

    @field_validator("ladder")
    @classmethod
    def _require_names(cls, ladder: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """A name is that of folders, and a word of a shell's command."""
        for entry in ladder:
            if not ENTRY.fullmatch(entry):
                rule = "an entry must be called by at most 64 letters a to z, digits, _ and -, a - not first"
                raise ValueError(f"{rule}, but one is {shown(entry)}")
        if RESERVED in ladder:
            raise ValueError(f"an entry must not be called {RESERVED}, as a folder of exports is, but one is")
        return ladder

    def entry(self, name: str) -> EntryConfig:
        """What the entry says beside its hyperparameters.

        Raises:
            InputError: a value breaks its rule, or names a prior that there is not.
        """
        where, content = f"params.yaml: ladder.{name}", self.ladder[name]
        own = {key: value for key, value in content.items() if key in EntryConfig.model_fields}
        for old in RENAMED_IN_ENTRIES.keys() & content.keys():
            raise InputError(f"{where}: the key {old!r} is now called {RENAMED_IN_ENTRIES[old]!r}")
        found = checked(EntryConfig, {"model": name} | own, where)
        for prior in found.priors or []:
            if prior not in self.priors:
                raise InputError(f"{where}.priors must be of {', '.join(self.priors)}, but one is {prior!r}")
        return found

    def samples_of(self, entry: str) -> int:
        """How many are drawn of an entry, under each of its priors, and judged.

        Raises:
            InputError: a value of the entry breaks its rule.
        """
        return self.entry(entry).evaluation_samples or self.evaluation.samples


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and check `path`.

    Raises:
        InputError: the file is missing, is not YAML, is too large, or a key or value breaks a rule.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise InputError(f"{path} must be a readable file, but in {Path.cwd()}: {error.strerror}") from None
    params = checked(Params, parse_yaml(content, str(path)), str(path))
    for entry in params.export.allow_failing:
        if entry not in params.ladder:
            rule = "export.allow_failing must have names of entries of the ladder"
            raise InputError(f"{path}: {rule}, but one is {entry!r}")
    return params


def checked(model: type[M], content: Any, where: str) -> M:
    """Validate `content`, with pydantic's report turned into one line that names the key and its value.

    Raises:
        InputError: a key is unknown or missing, or a value breaks its rule.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        sentences = [_sentence(model, item, where) for item in error.errors()[:MOST_MISTAKES]]
        more = [f"and {error.error_count() - MOST_MISTAKES} more"] if error.error_count() > MOST_MISTAKES else []
        raise InputError("; ".join(sentences + more)) from None


def is_searchable(model: type[BaseModel], key: str) -> bool:
    """Whether a sweep may try several values of `key`; a key of another model may be searched."""
    return key not in model.model_fields or NOT_SEARCHABLE not in model.model_fields[key].metadata


# What pydantic says beside a rule: `Value error, …`, `Input should be …`, `… or instance of SweepConfig`.
PYDANTICS = re.compile(r"^Value error, |^(?P<should>\w+ should )| or instance of \w+$| after validation, not \d+$")


def _sentence(model: type[BaseModel], item: Any, where: str) -> str:
    key = escaped(".".join(str(part)[:100] for part in item["loc"]))
    if item["type"] == "extra_forbidden" and key in RENAMED:
        return f"{where}: the key {key!r} is now called {RENAMED[key]!r}"
    if item["type"] == "extra_forbidden":
        known = ", ".join(_fields_at(model, item["loc"][:-1]))
        return f"{where}: unknown key {key!r}; the keys here are {known}"
    if item["type"] == "missing":
        return f"{where}: the key {key!r} must be there, but is missing"
    rule = PYDANTICS.sub(lambda found: "must " if found["should"] else "", item["msg"])
    stands = " " if rule.startswith("must ") else ": "
    got = "" if ", but " in rule else f", but got {shown(item['input'])}"  # a rule of ours may name the part
    return f"{where}: {key.removesuffix('.[key]') or 'the content'}{stands}{rule}{got}"


def _fields_at(model: type[BaseModel], location: tuple[str | int, ...]) -> list[str]:
    for part in location:
        annotation = model.model_fields[str(part)].annotation
        classes = [item for item in (annotation, *get_args(annotation)) if isinstance(item, type)]
        (model,) = (item for item in classes if issubclass(item, BaseModel))
    return list(model.model_fields)
