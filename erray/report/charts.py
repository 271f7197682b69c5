"""Geometry of the page's charts, in per cent of the plot area.

Templates place text and marks at percentages and stretch paths over the plot (no viewBox text),
so that a chart is as crisp on a phone as on a wide screen and takes its colours from the page.
``x`` runs from the left, ``y`` from the bottom; paths are given in SVG's downward ``y``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tick:
    """A labelled position on an axis."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps ``[low, high]`` to 0..100 per cent, linearly or by the logarithm.

    Raises:
        AssertionError: an empty span, or a logarithm of something not positive.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        assert self.high > self.low, (self.low, self.high)
        assert not self.log or self.low > 0, self.low

    @classmethod
    def over(cls, values: Sequence[float], *, log: bool = False) -> Scale:
        """Return the scale that just holds ``values``; a single value lies in its middle."""
        low, high = min(values), max(values)
        if low == high:
            pad = abs(low) / 2 or 0.5
            low, high = low - pad, high + pad
        return cls(low, high, log)

    @classmethod
    def rounded(cls, values: Sequence[float], *, floor: float | None = None) -> Scale:
        """Return a linear scale whose ends are round numbers around ``values``."""
        tight = cls.over([*values, *([] if floor is None else [floor])])
        step = _round_step(tight.high - tight.low, 4)
        low = math.floor(tight.low / step + 1e-9) * step
        high = math.ceil(tight.high / step - 1e-9) * step
        return cls(low, high)

    def at(self, value: float) -> float:
        """Return the position of ``value`` in per cent, kept within the plot."""
        low, high = self.low, self.high
        if self.log:
            value, low, high = (math.log(max(v, self.low)) for v in (value, low, high))
        return round(100 * min(max((value - low) / (high - low), 0.0), 1.0), 2)

    def ticks(self, num: int = 4) -> list[Tick]:
        """Return about ``num`` round values with their positions."""
        if self.log:
            return [Tick(self.at(v), number(v)) for v in (self.low, self.high)]
        step = _round_step(self.high - self.low, num)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        places = max(0, -math.floor(math.log10(step) + 1e-9))
        values = [(i * step) for i in range(first, last + 1)]
        return [Tick(self.at(v), f"{v:.{places}f}".replace("-", "\u2212")) for v in values]


@dataclass(frozen=True, slots=True)
class Line:
    """One curve: ``path`` for a stretched 100 x 100 SVG; ``tone`` is a class of the style sheet."""

    name: str
    tone: str
    path: str
    ends: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Dot:
    """One mark at (``x``, ``y``) per cent with its tool tip; size None: the style sheet's."""

    x: float
    y: float
    tone: str
    text: str
    size_px: float | None = None


@dataclass(frozen=True, slots=True)
class Chart:
    """A plot with ticks on both axes; ``rule_x`` marks one position with a dashed line."""

    title: str
    x_title: str
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    lines: Sequence[Line]
    dots: Sequence[Dot] = ()
    rule_x: Tick | None = None


def line(
    name: str, tone: str, points: Sequence[tuple[float, float]], *, x: Scale, y: Scale
) -> Line:
    """Return the curve through the points (in the units of the scales)."""
    placed = [(x.at(point[0]), y.at(point[1])) for point in points]
    return Line(name, tone, path(placed), placed[-1])


def path(points: Sequence[tuple[float, float]]) -> str:
    """Return the SVG path through ``points`` (per cent); one point is a short dash."""
    if len(points) == 1:
        (x, y) = points[0]
        points = [(x - 0.5, y), (x + 0.5, y)]
    return "M" + "L".join(f"{x:g} {round(100 - y, 2):g}" for x, y in points)


def area(xs: Sequence[float], lower: Sequence[float], upper: Sequence[float]) -> str:
    """Return the closed SVG path between two curves, all in per cent.

    A single point fills the whole width: a clip of one tick has one value all along.
    """
    if len(xs) == 1:
        xs, lower, upper = [0.0, 100.0], [*lower, *lower], [*upper, *upper]
    there = zip(xs, upper, strict=True)
    back = zip(reversed(xs), reversed(lower), strict=True)
    corners = (f"{x:g} {round(100 - y, 1):g}" for x, y in (*there, *back))
    return "M" + "L".join(corners) + "Z"


def number(value: float) -> str:
    """Return a short plain form of a number: 0.0013, 1.3e-5, 42, 0.87."""
    if not math.isfinite(value):
        return str(value)
    if value == 0 or (float(value).is_integer() and abs(value) < 1e6):
        return f"{value:.0f}"
    if abs(value) >= 1e6 or abs(value) < 1e-3:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    return f"{value:.3g}"


def _round_step(span: float, num: int) -> float:
    """Return 1, 2 or 5 times a power of ten, the one nearest to ``num`` cuts of ``span``."""
    power = 10.0 ** math.floor(math.log10(span / num))
    steps = [factor * power for factor in (1, 2, 5, 10)]
    return min(steps, key=lambda step: abs(span / step - num))
