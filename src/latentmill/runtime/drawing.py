"""The inputs of graphs: noise and labels that a seed draws, and what callers give."""

from collections.abc import Iterator

import numpy as np

from latentmill.errors import InputError, shown
from latentmill.runtime.facts import GENERATOR, GUIDANCE, LABEL, ROWS, Facts
from latentmill.runtime.guidance import Guidance, guidance_rows
from latentmill.runtime.labels import Label, LabelRows, label_indices, label_rows
from latentmill.runtime.noise import NoiseStream

# noise float32 (B, noise_width); label int64 (B) if conditional, and guidance float32 (B) if guided
Inputs = dict[str, np.ndarray]
MOST_ROWS = 1 << 40  # of one stream, which would take years


def generator_inputs(
    facts: Facts,
    n: int,
    batch: int,
    seed: int,
    temperature: float = 1.0,
    truncation: float | None = None,
    label: Label = None,
    guidance: Guidance = 1.0,
) -> Iterator[Inputs]:
    """The inputs of the generator for `n` images, `batch` at a time; the arguments are those of `Decoder.stream`.

    Raises:
        InputError: at once, if an argument breaks its rule.
    """
    for name, count in (("n", n), ("batch", batch)):
        if not 1 <= count <= MOST_ROWS:
            rule = "at least 1" if count < 1 else f"at most {MOST_ROWS}"
            raise InputError(f"{name} must be {rule}, but got {shown(count)}")
    noise = NoiseStream(facts.noise_width, seed, temperature, truncation, facts.categorical_noise)
    labels, weights = label_rows(facts, label, n, seed), guidance_rows(facts.is_guided, guidance, n)
    return (
        _inputs(noise, labels, None if weights is None else weights[start : start + batch], min(batch, n - start))
        for start in range(0, n, batch)
    )


def given_inputs(facts: Facts, name: str, rows: np.ndarray, label: Label, guidance: Guidance = 1.0) -> Inputs:
    """The inputs of the graph in the file `name` for `rows` (N, …); a label that it does not take is only checked.

    Raises:
        InputError: the label, or the guidance, is not right.
    """
    is_labelled = LABEL in facts.inputs[name]
    indices = label_indices(facts.classes, label, len(rows)) if is_labelled or label is not None else None
    weights = guidance_rows(facts.is_guided, guidance, len(rows)) if name == GENERATOR else None
    found = {ROWS[name]: rows, LABEL: indices if is_labelled else None, GUIDANCE: weights}
    return {each: given for each, given in found.items() if given is not None}


def _inputs(noise: NoiseStream, labels: LabelRows, guidance: np.ndarray | None, count: int) -> Inputs:
    found = {"noise": noise.rows(count), LABEL: labels.rows(count), GUIDANCE: guidance}
    return {name: rows for name, rows in found.items() if rows is not None}
