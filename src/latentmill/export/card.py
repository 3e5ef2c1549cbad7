"""What goes out with the graphs for people to read: what the model is, and how far it can be trusted."""

from typing import Any

from latentmill.errors import InputError

Json = dict[str, Any]


def require_kept(entry: str, metrics: Json, allow_broken: list[str]) -> None:
    """A copier goes out only where someone has said that it may.

    Raises:
        InputError: the samples of the prior that is exported break Rule 2, and `allow_broken` lacks the entry.
    """
    rule_2 = _verdicts(metrics)["rule_2"]
    if rule_2["status"] == "broken" and entry not in allow_broken:
        raise InputError(
            f"an export must not hand out copies of training images, but {entry} breaks Rule 2: {rule_2['evidence']}; "
            "to export it all the same, name it in export.allow_broken"
        )


def warning(metrics: Json) -> str:
    """The first line of a card: what its user must know before all else; empty where there is nothing."""
    rule_2 = _verdicts(metrics)["rule_2"]
    return f"Breaks Rule 2: its samples are copies of training images. {rule_2['evidence']}." * (
        rule_2["status"] == "broken"
    )


def as_text(card: Json) -> str:
    """The card as Markdown."""
    verdicts = _verdicts(card["metrics"])
    shape = " x ".join(map(str, card["image_shape"]))
    lines = [
        *([f"**{card['warning']}**", ""] if card["warning"] else []),
        f"# {card['entry']}",
        "",
        f"A model of the variant `{card['variant']}` that makes images of {shape} (channels, height, width) in [0, 1].",
        f"Codes are drawn from: {card['prior']}. Trained on data `{card['data_digest'][:12]}`, "
        f"trial `{card['fingerprint']}`.",
        "",
        "| rule | verdict | evidence |",
        "|---|---|---|",
        _row("1: samples look drawn from the data", verdicts["rule_1"]),
        _row("2: samples are suitably different from the training data", verdicts["rule_2"]),
        "",
        "| file | input | output |",
        "|---|---|---|",
        *(f"| `{name}` | `{file['input']}` | `{file['output']}` |" for name, file in card["files"].items()),
    ]
    return "\n".join(lines) + "\n"


def _row(rule: str, verdict: Json) -> str:
    return f"| {rule} | {verdict['status']}, {verdict['samples']} samples | {verdict['evidence']} |"


def _verdicts(metrics: Json) -> Json:
    """Those of the samples that the exported generator makes."""
    found: Json = metrics["samples"][metrics["exported_prior"]]
    return found
