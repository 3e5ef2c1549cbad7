"""Guidance of a conditional model: how strongly its generator follows the label."""

from collections.abc import Sequence

import numpy as np

from latentmill.errors import InputError, shown

Guidance = (
    float | Sequence[float] | np.ndarray
)  # for all rows, or one for each: 0 ignores the label, 1 is as in training
STRONGEST = 1000  # far beyond any use


def guidance_rows(is_guided: bool, guidance: Guidance, rows: int) -> np.ndarray | None:
    """The guidance of `rows` rows of a model that `is_guided`, float32 (rows); None for any other.

    Raises:
        InputError: it is not within 0 and `STRONGEST`, or neither one number nor as many as rows; or it is not 1 and
            the model is not guided.
    """
    try:
        found = np.asarray(guidance)
    except ValueError:
        raise InputError(f"guidance must be a number or a list of numbers, but got {shown(guidance)}") from None
    if found.dtype.kind not in "fiu" or not np.all((found >= 0) & (found <= STRONGEST)):
        raise InputError(f"guidance must be from 0 to {STRONGEST}, but got {shown(guidance)}")
    if found.shape not in ((), (rows,)):
        rule = f"guidance must be a number, or a list with one for each of {rows} rows"
        raise InputError(f"{rule}, but got the shape {found.shape}")
    if is_guided:
        return np.broadcast_to(found.astype(np.float32), (rows,))
    if np.any(found != 1):
        raise InputError(f"guidance must be left out, because the model is not guided, but got {shown(guidance)}")
    return None
