"""Guidance of a conditional model: how strongly its generator follows the label."""

from collections.abc import Sequence

import numpy as np

from latentmill.errors import InputError

Guidance = (
    float | Sequence[float] | np.ndarray
)  # for all rows, or one for each: 0 ignores the label, 1 is as in training


def guidance_rows(is_guided: bool, guidance: Guidance, rows: int) -> np.ndarray | None:
    """The guidance of `rows` rows of a model that `is_guided`, float32 (rows); None for any other.

    Raises:
        InputError: it is negative, not finite, or neither one number nor as many as rows; or it is not 1 and the model
            is not guided.
    """
    found = np.asarray(guidance)
    if found.dtype.kind not in "fiu" or not np.all((found >= 0) & np.isfinite(found)):
        raise InputError(f"guidance must be at least 0 and finite, but got {str(guidance)[:40]}")
    if found.shape not in ((), (rows,)):
        rule = f"guidance must be a number, or a list with one for each of {rows} rows"
        raise InputError(f"{rule}, but got the shape {found.shape}")
    if is_guided:
        return np.broadcast_to(found.astype(np.float32), (rows,))
    if np.any(found != 1):
        raise InputError(f"guidance must be left out, because the model is not guided, but got {str(guidance)[:40]}")
    return None
