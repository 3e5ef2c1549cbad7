"""The card of an export, for people to read: what the model is, its verdicts, numbers and limits."""

import re
from collections.abc import Iterator
from html import escape
from typing import Any

from latentmill.data.preparation.sufficiency import MOST_SLIDERS, RARE
from latentmill.runtime.format_1 import upgraded
from latentmill.runtime.text import one_line, plural

LISTED = 50  # classes, at most

Json = dict[str, Any]


def warning(metrics: Json) -> str:
    """The first line of a card where the samples fail Rule 2, else empty."""
    rule_2 = exported_samples(metrics)["rule_2"]
    if rule_2["status"] != "fail":
        return ""
    return f"Fails Rule 2: its samples are too close to training images. {rule_2['evidence']}."


def exported_samples(metrics: Json) -> Json:
    """The results for the samples of the prior that is exported."""
    found: Json = metrics["samples"][metrics["exported_prior"]]
    return found


def as_text(card: Json) -> str:
    """The card as Markdown; it may be one of an earlier export."""
    card = upgraded(card)
    sections = (_head, _verdicts, _numbers, _files, _example, _classes, _limits)
    return "\n".join(line for section in sections for line in [*section(card), ""]).rstrip() + "\n"


def _head(card: Json) -> Iterator[str]:
    if card["warning"]:
        yield from (f"**{card['warning']}**", "")
    data, shape = card["data"], " x ".join(map(str, card["image_shape"]))
    yield from (f"# {card['entry']}", "")
    yield f"A model `{card['model']}`: images of {shape} (channels, height, width) in [0, 1]."
    described = f"{plain(data['description'])} (data `{data['digest'][:12]}`)"
    yield f"It was trained on {data['counts']['train']} images: {described}."
    yield f"Prior of the codes: {card['prior']}."
    if card.get("codebook"):
        shape = " x ".join(map(str, card["code_shape"]))
        yield f"A code is {shape} indices into a codebook of {card['codebook']} entries."
    elif len(card.get("code_shape") or ()) > 1:
        yield f"Codes have the shape {' x '.join(map(str, card['code_shape']))}; a direction is a flattened code."
    if label := card.get("label"):
        yield f"It is conditional: `label`, int64 (batch), is an index into these: {_indexed(label)}."
    if is_guided(card):
        yield "`guidance`, float32 (batch), is how strongly the label is followed: 1 as in training, 0 not at all."
    yield f"Trial `{card['fingerprint']}`, weights `{card['weights_sha256'][:12]}`."
    if card.get("chosen"):
        yield f"It is the champion: {card['chosen']}."


def _has_lines(card: Json) -> bool:
    """Whether there are other codes between two of its codes, so that it has paths and directions."""
    return bool(card["latent"]) and not card.get("codebook")


def is_guided(card: Json) -> bool:
    """Whether its generator takes `guidance`."""
    return "guidance" in card["files"]["generator.onnx"].get("inputs", [])


def _indexed(label: Json) -> str:
    """The classes with their indices."""
    names = label["classes"]
    shown = [f"{index} {plain(name)}" for index, name in enumerate(names[:LISTED])]
    return ", ".join(shown) + (f" and {len(names) - LISTED} more in card.json" if len(names) > LISTED else "")


def _verdicts(card: Json) -> Iterator[str]:
    samples = exported_samples(card["metrics"])
    yield from ("| rule | verdict | evidence |", "|---|---|---|")
    for rule, words in (
        ("rule_1", "1: samples look drawn from the data"),
        ("rule_2", "2: samples are suitably different from the training data"),
    ):
        verdict = samples[rule]
        yield f"| {words} | {verdict['status']}, {verdict['samples']} samples | {verdict['evidence']} |"


def _numbers(card: Json) -> Iterator[str]:
    metrics = card["metrics"]
    yield from ("| measured on test images | value |", "|---|---|")
    if likelihood := metrics.get("likelihood"):
        name = f"likelihood, {likelihood['kind']}, {likelihood['sample_space']}"
        yield f"| {name} | {_interval(likelihood['nats'], likelihood['standard_error'])} nats per image |"
    for name, value in metrics.get("reconstruction", {}).items():
        if isinstance(value, float):
            yield f"| reconstruction: {name.replace('_', ' ')} | {value:.4g} |"
    samples = exported_samples(metrics)
    copies = samples["near_copies"]
    interval = f"95 % interval {copies['low']:.2%} to {copies['high']:.2%}"
    among_test = f"{copies['held_out']:.2%} among test images"
    yield f"| near copies among samples | {copies['share']:.2%}, {interval}; {among_test} |"
    for space, found_in_space in samples["metrics"].items():
        for name, found in found_in_space.items():
            yield f"| {name} ({space}) | {_interval(found['value'], found['standard_error'])} |"


def _files(card: Json) -> Iterator[str]:
    on = card["measured_on"]
    batches = list(next(iter(card["files"].values()))["milliseconds"])
    times = " | ".join(f"ms for {plural(int(batch), 'image')}" for batch in batches)
    yield from (f"| file | maps | {times} |", f"|---|---|{'---|' * len(batches)}")
    for name, file in card["files"].items():
        took = " | ".join(f"{file['milliseconds'][batch]:g}" for batch in batches)
        inputs, outputs = (", ".join(f"`{each}`" for each in file[key]) for key in ("inputs", "outputs"))
        yield f"| `{name}` | {inputs} to {outputs} | {took} |"
    for format, found in card["formats"].items():
        took = " | ".join(f"{found['milliseconds'][batch]:g}" for batch in batches)
        yield f"| `decoder.{format}.onnx` | {_difference(found)} | {took} |"
    yield from ("", f"Times are medians in onnxruntime on {on['threads']} threads of: {on['processor']}.")


def _difference(found: Json) -> str:
    mean, largest = found["mean_difference"], found["largest_difference"]
    differs = f"differs by {mean:.2g} of 255 levels on average, {largest:.2g} at most"
    return differs if found["published"] else f"not published: {differs}; the average may be {found['tolerance']:g}"


def _example(card: Json) -> Iterator[str]:
    shape, label = ", ".join(map(str, card["image_shape"])), _label_argument(card)
    yield from ("```python", "from latentmill import Decoder", "", f'decoder = Decoder("exports/{card["entry"]}")')
    yield f"images = decoder.sample(64, seed=0)  # (64, {shape}) float32 in [0, 1]"
    if label:
        guidance = ", guidance=2.0" if is_guided(card) else ""
        yield f"alike = decoder.sample(64, seed=0{label}{guidance})  # (64, {shape})"
    if _has_lines(card):
        yield f"codes = decoder.draw(2, seed=1{label})"
        yield f"path = decoder.interpolate(codes[0], codes[1], steps=16{label})  # (16, {shape})"
    if card["latent"] and card["directions"]:
        yield f"slider = decoder.traverse(codes[0], {card['directions'][0]['name']!r}{label})  # (9, {shape})"
    yield "```"


def _label_argument(card: Json) -> str:
    """The last argument of calls: the class with most training images, if the model is conditional."""
    if not card.get("label"):
        return ""
    classes, counts = card["label"]["classes"], card["label"]["counts"]
    return f", label={classes[counts.index(max(counts))]!r}"


def _classes(card: Json) -> Iterator[str]:
    classes = card["classes"]
    if not classes:
        return
    shown = [f"{plain(each['name'])} ({each['images']})" for each in classes[:LISTED]]
    more = f" and {len(classes) - LISTED} more in card.json" if len(classes) > LISTED else ""
    yield from ("## Classes", "", f"Training images by class, {len(classes)}: {', '.join(shown)}{more}.")
    rare = [f"{plain(each['name'])} ({each['images']})" for each in classes if each["images"] < RARE]
    if _has_lines(card) and len(classes) > MOST_SLIDERS:
        yield f"There are no directions toward classes, because there are more than {MOST_SLIDERS} classes."
    elif _has_lines(card) and rare:
        yield f"Classes with fewer than {RARE} images, and therefore no direction: {', '.join(rare[:LISTED])}."


def plain(text: str) -> str:
    """Text from outside, such as the name of a class, escaped for Markdown and HTML."""
    return escape(re.sub(r"([\\`*_\[\]|~#])", r"\\\1", one_line(text)), quote=False)


def _limits(card: Json) -> Iterator[str]:
    statuses = {rule: exported_samples(card["metrics"])[rule]["status"] for rule in ("rule_1", "rule_2")}
    largest = max(file["largest_difference_from_torch"] for file in card["files"].values())
    yield from ("## Limits", "")
    yield "- It generates images like those that it was trained on, and only of their size."
    drawn = "at temperature 1 without " + ("truncation or guidance" if is_guided(card) else "truncation")
    yield f"- The verdicts hold for samples {drawn}, compared with the data named above."
    if statuses["rule_1"] == "fail":
        yield "- Metrics distinguish its samples from real images: do not use them in place of data."
    if statuses["rule_1"] == "inconclusive":
        yield "- It is not known whether its samples look like real images: do not use them in place of data."
    if statuses["rule_2"] == "inconclusive":
        yield "- It is not known whether its samples are too close to training images."
    yield f"- On a CPU, onnxruntime differs from torch by at most {largest:.1e} of the largest value."


def _interval(value: float, standard_error: float) -> str:
    return f"{value:.4g} ± {2 * standard_error:.2g}"
