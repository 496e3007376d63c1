"""Scales and ticks of charts: from values to places and to round numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LOG_SPAN = 20.0
"""Positive values that span this factor are drawn on a logarithmic scale."""
SMALLEST = 1e-290
"""Spans below it cannot be calculated with, nor values beyond LARGEST."""


@dataclass(frozen=True)
class Scale:
    """Maps values from `low`..`high` to places from `start`..`end`, linearly or logarithmically (base 10)."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """The place of a value; one outside of the scale lies at its nearer end."""
        value = min(max(value, self.low), self.high)
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (self.end - self.start) * ((value - low) / (high - low))

    def ticks(self) -> list[float]:
        """At most about six round values on the scale; on a logarithmic one powers of ten, or 1, 2 and 5 times them."""
        if not self.log:
            step = round_step(self.high - self.low, 5)
            first = math.ceil(self.low / step - 1e-9)
            return [place * step for place in range(first, math.floor(self.high / step + 1e-9) + 1)]
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        factors = (1, 2, 5) if len(powers) <= 3 else (1,)
        found = [factor * 10.0**power for power in powers for factor in factors]
        return [value for value in found if self.low <= value <= self.high][:: 1 + len(powers) // 7]


def value_scale(values: Sequence[float], start: float, end: float, *, log: bool = False) -> Scale:
    """A scale that holds all the values, none of them beyond LARGEST; logarithmic if asked for and worth it."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if log and low > 0 and high / low >= LOG_SPAN:
        return Scale(low / 1.2, high * 1.2, start, end, log=True)
    if high - low < max(SMALLEST, 1e-9 * max(high, -low)):
        low, high = min(low, 0.0), max(high, 0.0)
        high = high if high - low > SMALLEST else low + 1.0
    if 0 <= low < (high - low):
        low = 0.0
    step = round_step(high - low, 5)
    return Scale(math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step, start, end)


def round_step(span: float, most: int) -> float:
    """The smallest of 1, 2, 5 times a power of ten that goes at most `most` times into `span` (above 0)."""
    rough = span / most
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))


def short(value: float) -> str:
    """A tick's value, as short as it can be read: 0.05, 12, 1.5k, 2M, 5e-5."""
    size = abs(value)
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if factor <= size < factor * 1000:
            return f"{value / factor:.3g}{unit}"
    if size and (size < 1e-3 or size >= 1e12):
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:.3g}"
