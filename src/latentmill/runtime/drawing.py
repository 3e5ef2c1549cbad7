"""What images are drawn from: noise and labels of a seed."""

from collections.abc import Iterator

import numpy as np

from latentmill.errors import InputError
from latentmill.runtime.facts import Facts
from latentmill.runtime.labels import Label, label_rows
from latentmill.runtime.noise import NoiseStream

Inputs = tuple[np.ndarray, np.ndarray | None]  # noise float32 (B, noise_width), labels int64 (B) if conditional


def generator_inputs(
    facts: Facts,
    n: int,
    batch: int,
    seed: int,
    temperature: float = 1.0,
    truncation: float | None = None,
    label: Label = None,
) -> Iterator[Inputs]:
    """The inputs of the generator for `n` images, `batch` at a time; the arguments are those of `Decoder.stream`.

    Raises:
        InputError: at once, if an argument breaks its rule.
    """
    for name, count in (("n", n), ("batch", batch)):
        if count < 1:
            raise InputError(f"{name} must be at least 1, but got {count}")
    noise = NoiseStream(facts.noise_width, seed, temperature, truncation, facts.categorical_noise)
    labels = label_rows(facts, label, n, seed)
    counts = (min(batch, n - start) for start in range(0, n, batch))
    return ((noise.rows(count), labels.rows(count)) for count in counts)
