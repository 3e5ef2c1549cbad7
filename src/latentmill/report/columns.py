"""The columns of the leaderboard that do not depend on the names of metrics and feature spaces."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from latentmill.report.inputs import Json
from latentmill.report.numbers import MINUS, percent, plain, plus_minus

Shown = tuple[str, float | str]  # the text of a cell, and its key for sorting
ARROWS = {"higher": "↑", "lower": "↓"}


@dataclass(frozen=True)
class Column:
    """One number of the evaluation."""

    title: str
    unit: str
    better: str  # "higher", "lower", or empty where neither is
    cell: Callable[[Json, Json], Shown]  # of an entry's metrics and those under a prior; KeyError: it has none

    @property
    def arrow(self) -> str:
        return ARROWS.get(self.better, "")


@dataclass(frozen=True)
class Group:
    """Columns that are shown or hidden together."""

    title: str
    columns: list[Column]
    shown: bool = True  # at first


def _near_copies(metrics: Json, samples: Json) -> Shown:
    found = samples["near_copies"]
    return f"{percent(found['share'])} ({percent(found['low'])} to {percent(found['high'])})", found["share"]


def likelihoods(spaces: list[str]) -> Group:
    """Columns of their own for each sample space, because numbers of two do not compare."""
    measured = [column for space in spaces for column in _likelihood(space)]
    return Group("Likelihood of test images", [Column("kind", "", "", partial(_text, "likelihood", "kind")), *measured])


def _likelihood(space: str) -> list[Column]:
    return [
        Column(f"{MINUS}log p(x)", f"nats per image: {space}", "lower", partial(_nats, space)),
        Column("bits per dimension", space, "lower", partial(_bits, space)),
    ]


def _nats(space: str, metrics: Json, samples: Json) -> Shown:
    found = _within(space, metrics)
    return plus_minus(found["nats"], found["standard_error"]), found["nats"]


def _bits(space: str, metrics: Json, samples: Json) -> Shown:
    found = _within(space, metrics)["bits_per_dimension"]
    return plain(found), found


def _within(space: str, metrics: Json) -> Json:
    """The likelihood, if it is of this sample space."""
    found: Json = metrics["likelihood"]
    return found if found["sample_space"] == space else {}


def _units(metrics: Json, samples: Json) -> Shown:
    found = metrics["latent"]
    return f"{found['active_units']} of {found['dimensions']}", found["active_units"]


def _codebook(metrics: Json, samples: Json) -> Shown:
    found = metrics["latent"]
    return f"{percent(found['entries_used'])} of {found['entries']}", found["entries_used"]


def _text(part: str, key: str, metrics: Json, samples: Json) -> Shown:
    return metrics[part][key], metrics[part][key]


def _entry(part: str, key: str, metrics: Json, samples: Json) -> Shown:
    return plain(metrics[part][key]), metrics[part][key]


def _samples(part: str, key: str, metrics: Json, samples: Json) -> Shown:
    return plain(samples[part][key]), samples[part][key]


def _share(part: str, key: str, metrics: Json, samples: Json) -> Shown:
    return percent(samples[part][key]), samples[part][key]


FIXED = [
    Group(
        "Nearest training image",
        [
            Column("near copies", "% of samples, 95% interval", "lower", _near_copies),
            Column("held out", "% of test images", "", partial(_share, "near_copies", "held_out")),
            Column("median", "pixel distance", "", partial(_samples, "nearest", "median")),
            Column("ratio to test", "1 for test images", "", partial(_samples, "nearest", "ratio_to_test")),
        ],
    ),
    Group(
        "Prior against codes of test images",
        [
            Column("C2ST accuracy", "% decoded, 50 is no holes", "lower", partial(_share, "hole", "c2st_accuracy")),
            Column("baseline", "% of training codes", "", partial(_share, "hole", "baseline_c2st_accuracy")),
            Column("MMD", "within an entry", "lower", partial(_samples, "prior", "mmd")),
            Column("largest KS", "of a dimension, within an entry", "lower", partial(_samples, "prior", "largest_ks")),
            Column("dimensions off", "within an entry", "lower", partial(_samples, "prior", "dimensions_off")),
        ],
    ),
    Group(
        "Reconstruction",
        [
            Column("MSE", "per pixel in [0, 1]", "lower", partial(_entry, "reconstruction", "mse")),
            Column("PSNR", "dB", "higher", partial(_entry, "reconstruction", "psnr_db")),
            Column("SSIM", "at most 1", "higher", partial(_entry, "reconstruction", "ssim")),
            Column("MS-SSIM", "at most 1", "higher", partial(_entry, "reconstruction", "ms_ssim")),
        ],
    ),
    Group(
        "Latent space",
        [
            Column("active", "dimensions", "", _units),
            Column("codebook used", "% of entries", "", _codebook),
            Column("KL", "nats per image", "", partial(_entry, "latent", "kl")),
            Column("collapse", "of the posterior", "", partial(_text, "latent", "collapse")),
            Column("longest step", "of the mean one", "lower", partial(_entry, "latent", "path_longest_step")),
        ],
    ),
    Group(
        "Known factors of test images",
        [
            Column("MIG", "1: a dimension for each factor", "higher", partial(_entry, "factors", "mig")),
            Column("disentanglement", "DCI, at most 1", "higher", partial(_entry, "factors", "disentanglement")),
            Column("completeness", "DCI, at most 1", "higher", partial(_entry, "factors", "completeness")),
            Column("informativeness", "DCI, 0 is guessing", "higher", partial(_entry, "factors", "informativeness")),
        ],
    ),
]
