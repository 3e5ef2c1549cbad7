"""What to see in a picture, in one line: from the kind of picture and the entry's numbers, never from its name.

So an entry or a variant that is unknown here is told about as well as any other. A number that the evaluation did not
find is left out of the line.
"""

from collections.abc import Callable
from dataclasses import dataclass

from latentmill.report.inputs import Json
from latentmill.report.numbers import percent, plain

# Where codes come from.
ROUTES = {"pixels": "no code", "normal": "N(0, I)", "gaussian": "a fitted Gaussian", "mixture": "a fitted mixture"}
# What a median distance below so many times that of test images says.
DISTANCES = (
    (0.67, "too close to be new"),
    (0.85, "closer than is usual for new images"),
    (1.15, "about what is usual for new images"),
    (1.5, "farther than is usual for new images"),
    (float("inf"), "outside the data"),
)
HOLES = 0.1  # accuracy above the usual at which draws are said to fall into holes between codes


@dataclass(frozen=True)
class Subject:
    """What a picture is of."""

    metrics: Json  # the entry's
    route: str  # how codes were drawn; empty for a picture that is not of samples
    labelled: bool  # whether the images have classes

    @property
    def samples(self) -> Json:
        """The numbers of this route."""
        found: Json = self.metrics["samples"].get(self.route, {})
        return found


@dataclass(frozen=True)
class Kind:
    """A kind of picture that the evaluation draws."""

    title: str
    group: str  # the part of an entry's section where it stands
    chart: bool  # a chart, or else images as they are
    tell: Callable[[Subject], str]


def route_name(route: str) -> str:
    return ROUTES.get(route, route)


def kind_of(stem: str) -> tuple[str, str]:
    """The kind and the route in a picture's file name: samples_normal, or codes."""
    kind, _, route = stem.partition("_")
    return (kind, route) if kind in KINDS else (stem, "")


def told_of_codes(samples: Json) -> str:
    """Whether codes are drawn from where the codes of images are, as the decoded images tell."""
    if "hole" not in samples:
        return ""
    here, usual = samples["hole"]["told_apart"], samples["hole"]["test_told_apart"]
    told = f"Told from codes of images with {percent(here)}% accuracy, {percent(usual)}% is usual"
    return f"{told}: {'draws fall into holes.' if here > usual + HOLES else 'no holes.'}"


def _samples(subject: Subject) -> str:
    if "nearest" not in subject.samples:
        return told_of_codes(subject.samples)
    return told_of_codes(subject.samples) or f"{_ratio(subject.samples)}."


def _gallery(subject: Subject) -> str:
    return " ".join(filter(None, (_samples(subject), "Open one to see the training images nearest to it.")))


def _closest(subject: Subject) -> str:
    shown = "The ten samples closest to a training image, each over that image."
    if "near_copies" not in subject.samples:
        return shown
    found = subject.samples["near_copies"]
    verdict = "more than is usual, so look for copies" if found["low"] > found["held_out"] else "no more than is usual"
    interval = f"95% interval {percent(found['low'])} to {percent(found['high'])}"
    return (
        f"{shown} {percent(found['share'])}% of all samples are near copies ({interval}), "
        f"{percent(found['held_out'])}% of the test images are: {verdict}."
    )


def _distances(subject: Subject) -> str:
    if "nearest" not in subject.samples:
        return ""
    verdict = next(words for bound, words in DISTANCES if subject.samples["nearest"]["ratio_to_test"] < bound)
    if subject.samples.get("rule_1", {}).get("status") == "broken" and verdict == DISTANCES[2][1]:
        return (
            f"{_ratio(subject.samples)}: {verdict}. But rule 1 is broken: as near as new images is not yet like them."
        )
    return f"{_ratio(subject.samples)}: {verdict}."


def _ratio(samples: Json) -> str:
    ratio = samples["nearest"]["ratio_to_test"]
    return f"Samples lie {ratio:.2f} times as far from their nearest training image as test images do"


def _reconstructions(subject: Subject) -> str:
    found = subject.metrics.get("reconstruction", {})
    named = {"psnr_db": "PSNR {:.1f} dB", "ssim": "SSIM {:.2f}", "ms_ssim": "MS-SSIM {:.2f}"}
    told = ", ".join(text.format(found[key]) for key, text in named.items() if key in found)
    what = "Test images, each over what its code keeps of it"
    return f"{what}{': ' if told else ''}{told}. Good ones alone promise nothing about samples."


def _worst(subject: Subject) -> str:
    found = subject.metrics.get("reconstruction", {})
    if not {"mse_worst", "mse_p95", "mse_median"} <= set(found):
        return "The test images that lose most, each over what its code keeps of it."
    return (
        f"The test images that lose most: squared error up to {plain(found['mse_worst'])}, where half of the images "
        f"stay below {plain(found['mse_median'])} and 95% below {plain(found['mse_p95'])}."
    )


def _interpolations(subject: Subject) -> str:
    longest = subject.metrics.get("latent", {}).get("path_longest_step")
    told = "" if longest is None else f"The longest step is usually {longest:.1f} times the mean one; 1 would be even. "
    return (
        f"Each row goes straight from one test image's code to another's. {told}The better the model, the more each "
        "step is an image of its own, not an overlay of both ends."
    )


def _traversals(subject: Subject) -> str:
    return (
        f"Each row moves one dimension of the code from \N{MINUS SIGN}3 to 3 standard deviations, the most active "
        f"first, with the others at their mean.{_active(subject)}"
    )


def _active(subject: Subject) -> str:
    found = subject.metrics.get("latent", {})
    if not {"active_units", "dimensions"} <= set(found):
        return ""
    return f" {found['active_units']} of {found['dimensions']} dimensions are active."


def _codes(subject: Subject) -> str:
    coloured = ", coloured by class" if subject.labelled else ""
    priors = {route: found["prior"] for route, found in subject.metrics["samples"].items() if "prior" in found}
    off = ", ".join(f"{found['dimensions_off']} from {route_name(route)}" for route, found in priors.items())
    return (
        f"A map of the test images' codes{coloured}, over draws from the prior."
        f"{f' Dimensions in which codes and draws differ: {off}.' if off else ''}"
    )


def _kl(subject: Subject) -> str:
    found = subject.metrics.get("latent", {})
    told = f": {found['kl']:.1f} nats in all" if "kl" in found else ""
    collapse = {
        "none": " None has collapsed to the prior.",
        "partial": f" {found.get('collapsed_dimensions')} have collapsed to the prior and carry nothing.",
        "complete": " All have collapsed to the prior: the decoder ignores its code.",
    }.get(found.get("collapse", ""), "")
    return f"What each dimension of the code tells about an image{told}.{collapse}{_active(subject)}"


def _likelihood(subject: Subject) -> str:
    found = subject.metrics.get("likelihood", {})
    ends = list(found.get("curve", {}).items())
    if len(ends) < 2:
        return "The bound on \N{MINUS SIGN}log p(x) of test images."
    (few, high), (many, low) = ends[0], ends[-1]
    gap = f" The ELBO is {plain(found['elbo']['gap'])} nats looser." if "elbo" in found else ""
    return (
        f"The bound on \N{MINUS SIGN}log p(x) of test images tightens from {plain(high)} nats with {few} "
        f"sample{'' if few == '1' else 's'} to {plain(low)} with {many}.{gap}"
    )


SAMPLES, RECONSTRUCTION, CODES, OTHER = "Samples", "Reconstruction", "The latent space", "More"
# In the order of the page.
KINDS = {
    "samples": Kind("Samples", SAMPLES, False, _samples),
    "gallery": Kind("Samples and their nearest training images", SAMPLES, False, _gallery),
    "closest": Kind("The ten closest pairs", SAMPLES, False, _closest),
    "distances": Kind("Distance to the training data", SAMPLES, True, _distances),
    "reconstructions": Kind("Reconstructions", RECONSTRUCTION, False, _reconstructions),
    "worst": Kind("The worst reconstructions", RECONSTRUCTION, False, _worst),
    "interpolations": Kind("Interpolations", CODES, False, _interpolations),
    "traversals": Kind("Traversals", CODES, False, _traversals),
    "codes": Kind("Codes", CODES, True, _codes),
    "kl": Kind("KL of each latent dimension", CODES, True, _kl),
    "likelihood": Kind("Likelihood bound", CODES, True, _likelihood),
}
