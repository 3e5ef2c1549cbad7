"""Captions of pictures, in one line: from the kind of the picture and the entry's numbers, never from its name.

So an entry or a model that is unknown here has captions like any other. A number that the evaluation lacks is left
out of the line.
"""

from collections.abc import Callable
from dataclasses import dataclass

from latentmill.proportion import Found
from latentmill.report.inputs import Json
from latentmill.report.numbers import count, percent, plain

PRIORS = {"own": "by itself", "normal": "N(0, I)", "gaussian": "Gaussian"}  # others have their own names
# The meaning of a median distance below so many times that of test images.
DISTANCES = (
    (0.67, "too close to be new"),
    (0.85, "closer than new images"),
    (1.15, "about as close as new images"),
    (1.5, "farther away than new images"),
    (float("inf"), "outside the data"),
)
COMPARED = 5_000  # test images, at most, with the training images
HOLES = 0.1  # C2ST accuracy above the baseline from which draws are said to fall into holes between codes


@dataclass(frozen=True)
class Subject:
    """What a picture shows."""

    metrics: Json  # the entry's
    prior: str  # empty for a picture that is not of samples
    manifest: Json  # of the prepared data set

    @property
    def samples(self) -> Json:
        """The numbers of the samples under this prior."""
        found: Json = self.metrics["samples"].get(self.prior, {})
        return found


@dataclass(frozen=True)
class Kind:
    """A kind of picture that the evaluation draws."""

    title: str
    group: str  # the part of an entry's section that it belongs to
    chart: bool  # a chart, or else images
    caption: Callable[[Subject], str]


def prior_name(prior: str) -> str:
    return PRIORS.get(prior, prior)


def kind_of_picture(stem: str) -> tuple[str, str]:
    """The kind and the prior in a picture's file name: samples_normal, or codes."""
    kind, _, prior = stem.partition("_")
    return (kind, prior) if kind in KINDS else (stem, "")


def holes(samples: Json) -> str:
    """Whether the prior draws codes where no codes of images are, judged by the decoded images."""
    if "hole" not in samples:
        return ""
    accuracy, baseline = samples["hole"]["c2st_accuracy"], samples["hole"]["baseline_c2st_accuracy"]
    numbers = f"C2ST accuracy against decoded codes of images {percent(accuracy)}%, baseline {percent(baseline)}%"
    return f"{numbers}: {'draws fall into holes.' if accuracy > baseline + HOLES else 'no holes.'}"


def _samples(subject: Subject) -> str:
    ratio = _ratio(subject.samples)
    return holes(subject.samples) or (f"{ratio}." if ratio else "")


def _gallery(subject: Subject) -> str:
    return " ".join(filter(None, (_samples(subject), "Select a sample to see its nearest training images.")))


def _closest(subject: Subject) -> str:
    what = "The ten samples closest to a training image, each over that image."
    if "near_copies" not in subject.samples:
        return what
    found = subject.samples["near_copies"]
    tests = min(COMPARED, subject.manifest["counts"]["test"])
    held_out = Found(round(found["held_out"] * tests), tests)
    is_more, is_less = found["low"] > held_out.highest(), found["high"] < held_out.lowest()
    comparison = "more than among these, so look for copies" if is_more else "the difference may be chance"
    comparison = "fewer than among these" if is_less else comparison
    interval = f"95% interval {percent(found['low'])} to {percent(found['high'])}"
    return (
        f"{what} {percent(found['share'])}% of all samples are near copies ({interval}), as are "
        f"{percent(found['held_out'])}% of {count(held_out.of)} test images: {comparison}."
    )


def _distances(subject: Subject) -> str:
    if "nearest" not in subject.samples:
        return ""
    if not (ratio := _ratio(subject.samples)):
        return "At least half of the test images equal a training image, so the distances do not show what is new."
    distance = next(words for bound, words in DISTANCES if subject.samples["nearest"]["ratio_to_test"] < bound)
    caption = f"{ratio}: {distance}."
    if subject.samples.get("rule_1", {}).get("status") == "fail" and distance == DISTANCES[2][1]:
        return f"{caption} But Rule 1 fails: the distance alone does not make them look like new images."
    return caption


def _ratio(samples: Json) -> str:
    """In words; empty where the distances were not measured, or that of test images is 0."""
    ratio = samples.get("nearest", {}).get("ratio_to_test")
    if ratio is None:
        return ""
    return f"Samples are {ratio:.2f} times as far from their nearest training image as test images are"


def _reconstructions(subject: Subject) -> str:
    found = subject.metrics.get("reconstruction", {})
    formats = {"psnr_db": "PSNR {:.1f} dB", "ssim": "SSIM {:.2f}", "ms_ssim": "MS-SSIM {:.2f}"}
    numbers = ", ".join(text.format(found[key]) for key, text in formats.items() if key in found)
    what = "Test images, each over its reconstruction"
    return f"{what}{': ' if numbers else ''}{numbers}. Good reconstructions do not imply good samples."


def _worst(subject: Subject) -> str:
    found = subject.metrics.get("reconstruction", {})
    what = "The test images with the largest errors, each over its reconstruction"
    if not {"mse_worst", "mse_p95", "mse_median"} <= set(found):
        return f"{what}."
    return (
        f"{what}: squared error up to {plain(found['mse_worst'])}, for half of the images below "
        f"{plain(found['mse_median'])}, for 95% below {plain(found['mse_p95'])}."
    )


def _interpolations(subject: Subject) -> str:
    longest = subject.metrics.get("latent", {}).get("path_longest_step")
    number = "" if longest is None else f"The longest step is {longest:.1f} times the mean one; 1 would be even. "
    return (
        f"Each row is a straight line from one test image's code to another's. {number}In a good model each step is an "
        "image of its own, not an overlay of both ends."
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
    coloured = ", coloured by class" if subject.manifest["classes"] else ""
    found = subject.samples.get("prior", {})
    off = f" Dimensions in which they differ: {found['dimensions_off']}." if found else ""
    return f"A map of the test images' codes{coloured}, over draws from the prior.{off}"


def _kl(subject: Subject) -> str:
    found = subject.metrics.get("latent", {})
    total = f": {found['kl']:.1f} nats in total" if "kl" in found else ""
    collapse = {
        "none": " None has collapsed to the prior.",
        "partial": f" Collapsed to the prior, without information: {found.get('collapsed_dimensions')}.",
        "complete": " All have collapsed to the prior: the decoder ignores the code.",
    }.get(found.get("collapse", ""), "")
    return f"The information about an image in each dimension of its code{total}.{collapse}{_active(subject)}"


def _factors(subject: Subject) -> str:
    found = subject.metrics.get("factors", {})
    numbers = f" MIG {found['mig']:.2f}, disentanglement {found['disentanglement']:.2f}." if found else ""
    return f"How much each dimension predicts each factor; one dark cell a row and a column would be ideal.{numbers}"


def _likelihood(subject: Subject) -> str:
    found = subject.metrics.get("likelihood", {})
    ends = list(found.get("curve", {}).items())
    if len(ends) < 2:
        return "The bound on \N{MINUS SIGN}log p(x) of test images."
    (few, high), (many, low) = ends[0], ends[-1]
    gap = f" The ELBO is {plain(found['elbo']['gap'])} nats looser." if "elbo" in found else ""
    return (
        f"The bound on \N{MINUS SIGN}log p(x) of test images falls from {plain(high)} nats with {few} "
        f"sample{'' if few == '1' else 's'} to {plain(low)} with {many}.{gap}"
    )


SAMPLES, RECONSTRUCTION, CODES, OTHER = "Samples", "Reconstruction", "The latent space", "More"
# In the order of the page.
KINDS = {
    "samples": Kind("Samples", SAMPLES, False, _samples),
    "gallery": Kind("Samples and their nearest training images", SAMPLES, False, _gallery),
    "closest": Kind("The ten closest pairs", SAMPLES, False, _closest),
    "distances": Kind("Distance to the training data", SAMPLES, True, _distances),
    "codes": Kind("Codes", SAMPLES, True, _codes),
    "reconstructions": Kind("Reconstructions", RECONSTRUCTION, False, _reconstructions),
    "worst": Kind("The worst reconstructions", RECONSTRUCTION, False, _worst),
    "interpolations": Kind("Interpolations", CODES, False, _interpolations),
    "traversals": Kind("Traversals", CODES, False, _traversals),
    "factors": Kind("Known factors", CODES, True, _factors),
    "kl": Kind("KL of each latent dimension", CODES, True, _kl),
    "likelihood": Kind("Likelihood bound", CODES, True, _likelihood),
}
