"""What card.json must say about a model so that it can be run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from latentmill.errors import InputError, shown
from latentmill.runtime.json_file import at

LARGEST = 2**31  # above any size of an array that is held here
MOST_COUNTED = 2**32  # training images, below: labels are drawn with 32 bits
GENERATOR, DECODER, ENCODER = "generator.onnx", "decoder.onnx", "encoder.onnx"
ROWS = {GENERATOR: "noise", DECODER: "z", ENCODER: "image"}  # the first input of each graph, and for some the only one
LABEL, GUIDANCE = "label", "guidance"  # further inputs: indices of classes; how strongly they are followed


@dataclass(frozen=True)
class Facts:
    """Shapes and classes of a model, and what each of its graphs takes, in their order."""

    image_shape: tuple[int, int, int]  # (C, H, W)
    latent: int | None  # values of a code, None for a model without codes
    code_shape: tuple[int, ...] | None
    noise_width: int
    categorical_noise: int  # columns of the noise that select a component
    entries: int = 0  # of the codebook, where codes are indices into one
    classes: tuple[str, ...] = ()  # of a conditional model, in the order of their indices
    counts: tuple[int, ...] = ()  # training images of each class
    inputs: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: {name: (rows,) for name, rows in ROWS.items()}
    )

    @property
    def is_guided(self) -> bool:
        return GUIDANCE in self.inputs[GENERATOR]


def read_facts(card: Mapping[str, Any], where: str) -> Facts:
    """The facts in a card that has the words of format 2.

    Raises:
        InputError: one is missing, is not such a number, or does not fit the others.
    """
    try:
        channels, height, width = (_count(size) for size in card["image_shape"])
        latent = None if card["latent"] is None else _count(card["latent"])
        noise, categorical = _count(card["noise"]["width"]), _count(card["noise"]["categorical"], least=0)
    except (KeyError, TypeError, ValueError) as error:
        rule = "image_shape (C, H, W), latent, noise.width and noise.categorical as whole numbers"
        raise InputError(f"{where} must name {rule}, but: {error!r}") from None
    code_shape, label = _code_shape(card, latent, where), _label(card.get("label"), where)
    inputs = {name: _inputs(card, name, bool(label[0]), where) for name in ROWS}
    entries = _entries(card.get("codebook"), where)
    return Facts((channels, height, width), latent, code_shape, noise, categorical, entries, *label, inputs)


def _entries(given: Any, where: str) -> int:
    """0 where codes are real numbers, as in earlier exports."""
    try:
        return 0 if given is None else _count(given)
    except ValueError as error:
        raise InputError(f"{where} must name as codebook its entries, a whole number, but: {error}") from None


def _code_shape(card: Mapping[str, Any], latent: int | None, where: str) -> tuple[int, ...] | None:
    """Cards of earlier exports have none, because their codes are vectors."""
    if latent is None:
        return None
    given = card.get("code_shape", [latent])
    try:
        shape = tuple(_count(size) for size in given)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where} must name code_shape as whole numbers, but: {error!r}") from None
    if prod(shape) != latent:
        raise InputError(f"{where} must name a code_shape of {latent} values, as latent says, but names {shown(given)}")
    return shape


def _inputs(card: Mapping[str, Any], name: str, is_conditional: bool, where: str) -> tuple[str, ...]:
    """Of the graph in that file. The generator of a conditional model takes a label, other graphs of one may."""
    rows = (ROWS[name],)
    known = [rows] if not is_conditional else [(*rows, LABEL), (*rows, LABEL, GUIDANCE) if name == GENERATOR else rows]
    given = at(card, "files", name, "inputs")  # None: there is no such graph, or the export is an earlier one
    found = rows if given is None else tuple(given) if isinstance(given, list) else ()
    if found not in known:
        choices = " or ".join(", ".join(each) for each in known)
        raise InputError(f"{where} must say that {name} takes {choices}, but says {shown(given)}")
    return found


def _label(label: Any, where: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The classes and their counts; both empty for a model that is not conditional."""
    if label is None:
        return (), ()
    try:
        classes, counts = tuple(label["classes"]), tuple(_count(each, least=0) for each in label["counts"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{where} must name label.classes and label.counts, but: {error!r}") from None
    named = all(isinstance(name, str) for name in classes) and len(set(classes)) == len(classes)
    if not named or len(classes) != len(counts) or not 0 < sum(counts) < MOST_COUNTED:
        rule = f"different names as label.classes, and the images of each, 1 to {MOST_COUNTED - 1} in all"
        raise InputError(f"{where} must have {rule}, but has {shown(label)}")
    return classes, counts


def _count(value: Any, least: int = 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= LARGEST:
        raise ValueError(f"{shown(value)} is no whole number from {least} to {LARGEST}")
    return value
