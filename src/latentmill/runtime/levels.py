"""What the numbers of an image array mean: which value is white, by one rule wherever arrays are read."""

import numpy as np

from latentmill.errors import InputError


def white_level(
    dtype: np.dtype, low: float, high: float, where: str, white: int | None = None, black: bool = False
) -> float:
    """The value of white in an array of `dtype` whose values lie within `low` and `high`; black is 0.

    1 for booleans and floats, 255 for integers, or `white` where the caller says so. With `black` all integers may
    be 0, which is black whatever white is.

    Raises:
        InputError: values lie outside, or integers up to 1 might be black and white or nearly black; it names `where`.
    """
    if dtype.kind not in "buif":
        raise InputError(f"{where} must be booleans, integers or floats, but got dtype {dtype}")
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InputError(f"{where} must be finite, but some values are NaN or infinite")
    level = white if white is not None else 1 if dtype.kind in "bf" else 255
    kind = {"b": "booleans", "f": "floats"}.get(dtype.kind, "integers")
    if low < 0 or high > level:
        hint = "; save them as floats, or set data.white" if white is None and dtype.kind in "iu" else ""
        got = f"got values from {low:.6g} to {high:.6g}{hint}"
        raise InputError(f"{where} of {kind} must lie within 0..{level}, but {got}")
    if dtype.kind in "iu" and high <= 1 and white is None and not (black and high == 0):
        raise InputError(
            f"{where} of integers must have a value above 1, but got values from {low} to {high}: if 1 is white, save "
            "them as booleans or times 255; if they are nearly black, as floats divided by 255"
        )
    return float(level)
