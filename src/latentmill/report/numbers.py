"""Formats numbers: with no more digits than their error allows, and with typographic signs."""

from math import floor, log10

MISSING, MINUS = "—", "\N{MINUS SIGN}"
SPACE = "\N{NO-BREAK SPACE}"
MOST_DECIMALS = 4


def minus(number: str) -> str:
    """A formatted number with a typographic minus sign."""
    return number.replace("-", MINUS)


def plain(value: float) -> str:
    """Three significant digits, never an exponent: 0.00123, 1.23, 123, 1235."""
    return minus(f"{value:.{_decimals(value, 2)}f}")


def plus_minus(value: float, error: float | None) -> str:
    """The value and its standard error, to the first digit of the error, or to the second if the first is 1.

    An error that would read 0 is left out.
    """
    if not error or float(f"{error:.{MOST_DECIMALS}f}") == 0:  # also where it is rounding alone
        return plain(value)
    decimals = _decimals(error, int(f"{error:e}".startswith("1")))
    return minus(f"{value:.{decimals}f}") + f"{SPACE}±{SPACE}{error:.{decimals}f}"


def percent(share: float) -> str:
    """Without its sign: one decimal, or two significant digits of less than one."""
    percents = 100 * share
    return f"{percents:.{_decimals(percents, 1) if 0 < percents < 1 else 1}f}"


def share(value: float) -> str:
    """A share as percent, with two significant digits: 0.033 %, 1.2 %, 97 %."""
    percents = 100 * value
    digits = f"{percents:.3g}" if percents >= 10 else f"{percents:.2g}"
    return f"{float(digits):g}{SPACE}%"


def count(number: int) -> str:
    """12345 -> 12 345, with thin spaces that do not break lines."""
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def plural(number: int, noun: str, ending: str = "s") -> str:
    return f"{count(number)} {noun}{'' if number == 1 else ending}"


def size(number: int) -> str:
    return f"{number / 1e6:.1f} MB" if number >= 1e6 else f"{max(1, round(number / 1e3))} kB"


def seconds(number: float) -> str:
    return f"{number / 60:.0f} min" if number >= 600 else f"{number:.3g} s"


def _decimals(value: float, after_first: int) -> int:
    """The number of decimals that show the first significant digit of `value` and `after_first` more."""
    magnitude = floor(log10(abs(value))) if value else 0
    return min(MOST_DECIMALS, max(0, after_first - magnitude))
