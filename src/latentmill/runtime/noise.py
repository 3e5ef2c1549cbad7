"""Standard normal noise that is the same for a seed on every platform and with every version of numpy.

numpy guarantees this only for the bits of its generators, not for the numbers that it makes from them. So the bits of
Philox become uniform numbers, and the inverse of the normal distribution function turns these into noise. Each number
has its own bits: with rejection sampling, one difference in the last place would shift all the numbers that follow.
"""

from math import erf, sqrt

import numpy as np

from latentmill.errors import InputError, shown

HOTTEST = 1000  # far beyond any use; codes larger by orders of magnitude overflow in the networks
BLOCK = 1 << 14  # values at a time, so that what they pass through stays in the cache


class NoiseStream:
    """Rows of noise, one after the other: the same rows, however many are requested at a time."""

    def __init__(
        self, width: int, seed: int, temperature: float = 1.0, truncation: float | None = None, categorical: int = 0
    ):
        """Rows of `width`. The first `categorical` columns select a component, and are neither scaled nor truncated.

        `temperature` scales the others: below 1 they are nearer to the mean. With `truncation` they are drawn from
        the normal distribution between -truncation and truncation, before they are scaled.

        Raises:
            InputError: `seed` is below 0, `temperature` is not within 0 and `HOTTEST`, or `truncation` is not above 0.
        """
        if seed < 0:
            raise InputError(f"seed must be at least 0, but got {shown(seed)}")
        if not 0 <= temperature <= HOTTEST:
            raise InputError(f"temperature must be from 0 to {HOTTEST}, but got {shown(temperature)}")
        if truncation is not None and not truncation > 0:
            raise InputError(f"truncation must be above 0, but got {shown(truncation)}")
        self.width, self.categorical, self.temperature = width, categorical, temperature
        self.below = 0.0 if truncation is None else 0.5 * (1 - erf(truncation / sqrt(2)))  # cut off on either side
        self._bits = np.random.Philox(seed)

    def rows(self, count: int) -> np.ndarray:
        """The next `count` rows, float32 (count, width)."""
        found = np.empty((count, self.width), np.float32)
        step = max(1, BLOCK // self.width)
        for start in range(0, count, step):
            part = found[start : start + step]
            part[:] = self._block(len(part))
        return found

    def _block(self, count: int) -> np.ndarray:
        """float64 (count, width): 32 bits a value, 64 bits for an odd one left over, so that rows begin alike."""
        words = self._bits.random_raw(count * ((self.width + 1) // 2)).reshape(count, -1)
        halves = np.stack([words & 0xFFFFFFFF, words >> np.uint64(32)], axis=2).reshape(count, -1)[:, : self.width]
        uniform = (halves + 0.5) * 2.0**-32
        uniform[:, self.categorical :] *= 1 - 2 * self.below
        uniform[:, self.categorical :] += self.below
        noise = quantile(uniform)
        noise[:, self.categorical :] *= self.temperature
        return noise


def quantile(uniform: np.ndarray) -> np.ndarray:
    """The standard normal quantiles of float64 in (0, 1), to 1 part in 10^7: algorithm AS 241, PPND7 (Wichura 1988)."""
    centred = uniform - 0.5
    square = 0.180625 - centred * centred
    found = centred * _ratio(square, _CENTRE)
    tails = np.abs(centred) > 0.425
    if tails.any():
        at = uniform[tails]
        distance = np.sqrt(-np.log(np.minimum(at, 1 - at)))
        near, far = _ratio(distance - 1.6, _NEAR), _ratio(distance - 5, _FAR)
        found[tails] = np.copysign(np.where(distance <= 5, near, far), at - 0.5)
    return found


# Coefficients of numerator and denominator, of the highest power first.
_CENTRE = (
    (5.9109374720e01, 1.5929113202e02, 5.0434271938e01, 3.3871327179e00),
    (6.7187563600e01, 7.8757757664e01, 1.7895169469e01, 1.0),
)
_NEAR = (
    (1.7023821103e-01, 1.3067284816e00, 2.7568153900e00, 1.4234372777e00),
    (1.2021132975e-01, 7.3700164250e-01, 1.0),
)
_FAR = (
    (1.7337203997e-02, 4.2868294337e-01, 3.0812263860e00, 6.6579051150e00),
    (1.2258202635e-02, 2.4197894225e-01, 1.0),
)


def _ratio(x: np.ndarray, coefficients: tuple[tuple[float, ...], tuple[float, ...]]) -> np.ndarray:
    numerator, denominator = coefficients
    return _polynomial(numerator, x) / _polynomial(denominator, x)


def _polynomial(coefficients: tuple[float, ...], x: np.ndarray) -> np.ndarray:
    first, *others = coefficients
    total = np.full_like(x, first)
    for coefficient in others:
        total *= x
        total += coefficient
    return total
