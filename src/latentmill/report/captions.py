"""What to see in a picture, in one line: from the kind of picture and the entry's numbers, never from its name.

So an entry or a variant that is unknown here is told about as well as any other.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

ROUTES = {"pixels": "no code", "normal": "N(0, I)", "mixture": "the mixture"}  # where codes come from
FILLED = 0.75  # coverage under N(0, I) from which its draws are said to meet the codes
FEW = 0.5  # coverage below which samples are said to miss most of the data
# What a median distance below so many times that of test images says.
DISTANCES = (
    (0.67, "too close to be new"),
    (0.85, "closer than is usual for new images"),
    (1.15, "about what is usual for new images"),
    (1.5, "farther than is usual for new images"),
    (float("inf"), "outside the data"),
)


@dataclass(frozen=True)
class Subject:
    """What a picture is of."""

    metrics: dict[str, Any]  # the entry's
    route: str  # how codes were drawn; empty for a picture that is not of samples
    labelled: bool  # whether the images have classes

    @property
    def samples(self) -> dict[str, float]:
        """The numbers of this route."""
        return self.metrics["samples"][self.route]

    @property
    def title(self) -> str:
        several = len(self.metrics["samples"]) > 1
        return f", codes from {_name(self.route)}" if self.route and several else ""


@dataclass(frozen=True)
class Kind:
    """A kind of picture that the evaluation draws."""

    title: str
    chart: bool  # a chart, or else images as they are
    tell: Callable[[Subject], str]


def kind_of(stem: str) -> tuple[str, str]:
    """The kind and the route in a picture's file name: samples_normal, or codes."""
    kind, _, route = stem.partition("_")
    return (kind, route) if kind in KINDS else (stem, "")


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _samples(subject: Subject) -> str:
    coverage = {route: found["coverage"] for route, found in subject.metrics["samples"].items()}
    here = coverage.pop(subject.route)
    if not coverage:
        return _alone(subject.samples)
    route, other = next(iter(coverage.items()))
    covered = f"{percent(here)}% of the test images have a sample near them"
    return f"{_meets(subject.route, here, other)}: {covered}; with codes from {_name(route)}, {percent(other)}%."


def _alone(samples: dict[str, float]) -> str:
    if samples["precision"] == samples["coverage"] == 0:
        return "Not one sample comes near a test image: whatever these are, they are not drawn from the data."
    near, covered = percent(samples["precision"]), percent(samples["coverage"])
    return f"{near}% of the samples lie among the test images; {covered}% of the test images have a sample near them."


def _meets(route: str, here: float, other: float) -> str:
    """Whether codes are drawn where the codes of images are, as coverage here and by another way tells."""
    if route == "mixture":
        return "The same decoder, asked where its codes are" if other < here / 2 else "Fitted to the training codes"
    if here < other / 2:
        return f"{_name(route)} misses the codes"
    return f"The codes fill the space of {_name(route)}" if here >= FILLED else "Drawn without a look at the codes"


def _name(route: str) -> str:
    return ROUTES.get(route, route)


def _neighbours(subject: Subject) -> str:
    close = subject.samples["closer_than_1pct_of_test"]
    verdict = "no more than the usual 1%" if close <= 0.01 else "more than the usual 1%, so look for copies"
    return (
        "Above, the first samples, each over its nearest training image; below, the closest of all. "
        f"{percent(close)}% come closer than 99% of the test images do: {verdict}."
    )


def _distances(subject: Subject) -> str:
    ratio, coverage = subject.samples["nearest_train_ratio_to_test"], subject.samples["coverage"]
    told = f"Samples lie {ratio:.2f} times as far from their nearest training image as test images do"
    verdict = next(words for bound, words in DISTANCES if ratio < bound)
    if coverage < FEW and verdict != DISTANCES[-1][1]:
        return f"{told}, yet miss most of the data: only {percent(coverage)}% of the test images have one near them."
    return f"{told}: {verdict}."


def _reconstructions(subject: Subject) -> str:
    found = subject.metrics["reconstruction"]
    return (
        f"Test images, each over what its code keeps of it: PSNR {found['psnr_db']:.1f} dB, SSIM {found['ssim']:.2f}. "
        "Good ones alone promise nothing about samples."
    )


def _interpolations(subject: Subject) -> str:
    return (
        "Each row goes straight from one test image's code to another's: the better the model, the more each step is "
        "an image of its own, not an overlay of both ends."
    )


def _codes(subject: Subject) -> str:
    coloured = ", coloured by class" if subject.labelled else ""
    return f"A map of the test images' codes{coloured}. N(0, I) draws within about 3 of the origin: compare the axes."


def _kl(subject: Subject) -> str:
    found = subject.metrics["kl"]
    return (
        f"What each dimension of the code tells about an image: {found['active_dimensions']} are in use, "
        f"with {found['nats']:.1f} nats in all. One at 0 would be unused."
    )


# In the order of the page: the ways to sample come side by side.
KINDS = {
    "samples": Kind("Samples", False, _samples),
    "neighbours": Kind("Nearest training images", False, _neighbours),
    "distances": Kind("Distance to the training data", True, _distances),
    "reconstructions": Kind("Reconstructions", False, _reconstructions),
    "interpolations": Kind("Interpolations", False, _interpolations),
    "codes": Kind("Codes", True, _codes),
    "kl": Kind("KL of each latent dimension", True, _kl),
}
