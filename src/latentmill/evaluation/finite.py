"""Checks that the metrics of a model are finite."""

from typing import Any

import numpy as np

from latentmill.errors import InputError


def require_finite_metrics(metrics: dict[str, Any], where: str = "") -> None:
    """Raises: InputError: a number below `where` is NaN or infinite."""
    for name, value in metrics.items():
        path = f"{where}.{name}" if where else name
        if isinstance(value, dict):
            require_finite_metrics(value, path)
        elif isinstance(value, float) and not np.isfinite(value):
            raise InputError(f"metrics must be finite, but {path} is {value}")
