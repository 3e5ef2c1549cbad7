"""What to try next, from what limits an entry. Words between backticks are settings and commands."""

from latentmill.export.card import exported_samples
from latentmill.report.inputs import Entry
from latentmill.report.verdicts import ceiling, limited_by, verdicts

BETTER = {  # by what limits samples under Rule 1
    "decoder": "Improve the decoder of {name}, for its reconstructions of new images fail Rule 1 too: a larger "
    "`latent`, more `channels`, or more `epochs`.",
    "prior": "Improve the prior of {name}, for its decoder passes with codes of images: a flow among its `priors`, "
    "with more `hidden` units or `epochs`.",
    "": "Add a model with codes and a flow over them, such as `latent_flow` in params.yaml: {name} has no codes.",
}
NEWER = (
    "Keep samples farther from the training images: more images, or a prior with more `dropout`, such as "
    "`regularised_flow`."
)
USE = (
    "The champion is ready: `latentmill serve exports/champion` shows it in a browser, `latentmill sample "
    "exports/champion --n 64 --out samples.png` draws more samples."
)


def next_steps(entry: Entry) -> list[str]:
    """Sentences about the samples of the exported prior."""
    samples = exported_samples(entry.metrics)
    rule_1, rule_2 = verdicts(samples)
    doubts = [f"Rule {each.rule}: {each.reasons[0]}." for each in (rule_1, rule_2) if each.style == "unsure"]
    steps = [NEWER] if rule_2.status == "fail" else []
    if rule_1.status == "fail":
        steps.append(_better(entry, limited_by(entry.metrics, samples)))
    if not steps + doubts and entry.outcome.exported:
        return [USE]
    return steps + doubts


def _better(entry: Entry, limit: str) -> str:
    if limit in BETTER:
        return BETTER[limit].format(name=entry.name)
    found = ceiling(entry.metrics)
    return f"Find out whether the decoder or the prior limits {entry.name}: {found.reasons[0] if found else limit}."
