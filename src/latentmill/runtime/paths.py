"""Paths from one code to another."""

from typing import Literal

import numpy as np

from latentmill.errors import InputError
from latentmill.runtime.arguments import as_float32

Path = Literal["linear", "slerp"]


def path(start: np.ndarray, end: np.ndarray, steps: int, kind: Path) -> np.ndarray:
    """`steps` codes from `start` (…) to `end` (…), both included: float32 (steps, …), of any shape.

    `linear` is the straight line; `slerp` the great arc, along which the norm does not dip (Shoemake 1985; White
    2016), or the line where both have the same or the opposite direction, or one is 0.

    Raises:
        InputError: there are fewer than 2 steps, or the kind is another.
    """
    if steps < 2:
        raise InputError(f"steps must be at least 2, but got {steps}")
    if kind not in ("linear", "slerp"):
        raise InputError(f"a path must be linear or slerp, but got {kind!r}")
    share = np.linspace(0, 1, steps)[:, None]
    a, b = start.ravel().astype(np.float64), end.ravel().astype(np.float64)
    weights = (1 - share, share)
    if kind == "slerp":
        norms = float(np.linalg.norm(a) * np.linalg.norm(b))
        angle = np.arccos(np.clip(np.dot(a, b) / norms, -1, 1)) if norms else 0.0
        if 1e-6 < angle < np.pi - 1e-6:
            weights = tuple(np.sin(part * angle) / np.sin(angle) for part in weights)
    return as_float32(weights[0] * a + weights[1] * b).reshape(steps, *start.shape)
