"""Line charts and column charts.

The first series is what the page is about, drawn solid. A second series differs in form as well as in colour (dashed,
or an outline), so that the chart can be read without seeing colours.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from qdsft import figures
from qdsft.metrics.numbers import LARGEST
from qdsft.scoring.report.drawing import CLASSES, SIZE, Drawing, short
from qdsft.scoring.report.text import clean, text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEIGHT = 220.0
MOST_POINTS = 300
"""A longer line is drawn through the means of this many stretches."""
LOG_SPAN = 20.0
"""Values are drawn on a logarithmic scale from this ratio of the largest to the smallest."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 42.0, 344.0, 30.0, 182.0
ROUND_STEPS = [1, 2, 5, 10]


@dataclass(frozen=True)
class Series:
    """A named line: (x, y) in the order of x. A y that is not finite, or beyond LARGEST, leaves a gap."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Counts:
    """A named count per column."""

    name: str
    values: Sequence[float]


def line_chart(title: str, series: Sequence[Series], x_name: str, y_name: str, *, log: bool = False) -> Markup:
    """Return a chart of one or two lines. With `log`, y is logarithmic if its values span LOG_SPAN or more."""
    drawing = Drawing.new(HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM)
    lines = [_thin(one.points) for one in series]
    handles = []
    for line, class_, color, dashes in zip(lines, CLASSES, (figures.FIRST, figures.SECOND), ("-", "--"), strict=False):
        marker = "o" if len(line) <= 30 else ""
        xs, ys = [x for x, _ in line], [y for _, y in line]
        (artist,) = drawing.axes.plot(xs, ys, dashes, color=color, marker=marker, markersize=4, linewidth=1.8)
        drawing.mark(artist, f"line {class_}")
        handles.append(artist)
    heights = [y for line in lines for _, y in line if math.isfinite(y)]
    low, high = min(heights, default=0.0), max(heights, default=1.0)
    logarithmic = log and low > 1 / LARGEST and LOG_SPAN <= high / low < 1e100
    _scale(drawing.axes, low, high, logarithmic=logarithmic)
    places = [x for line in lines for x, _ in line]
    left, right = min(places, default=0.0), max(places, default=1.0)
    drawing.axes.set_xlim((left, right) if left < right else (left - 0.5, left + 0.5))
    _names(drawing, x_name, y_name + (", log scale" if logarithmic else ""))
    if len(series) > 1:
        drawing.legend(handles, [one.name for one in series])
    return drawing.svg(title)


def column_chart(title: str, labels: Sequence[str], series: Sequence[Counts], x_name: str) -> Markup:
    """Return counts of rows as columns; the second of two series is an outline over the first.

    `labels` names the columns, or the bounds between them if there is one label more than there are columns.
    """
    from matplotlib.patches import Rectangle

    drawing = Drawing.new(HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM)
    axes = drawing.axes
    first, *others = series
    columns = len(first.values)
    has_bounds = len(labels) > columns
    for place, count in enumerate(first.values):
        if count:
            (bar,) = axes.bar([place + 0.5], [count], 0.9, color=figures.BAR)
            name = f"{labels[place]} to {labels[place + 1]}" if has_bounds else labels[place]
            drawing.mark(bar, "bar first", f"{name}: {short(count)} {first.name}")
    if others:
        outline = axes.stairs(others[0].values, range(columns + 1), color=figures.INK, linewidth=1.5)
        drawing.mark(outline, "outline second")
        drawing.legend([Rectangle((0, 0), 1, 1, color=figures.BAR), outline], [one.name for one in series])
    axes.set_xlim(0, max(1, columns))
    _scale(drawing.axes, 0.0, max(1.0, *(count for one in series for count in one.values)))
    crowded = (max((text_width(label, SIZE) for label in labels), default=0.0) + 6) * columns / (_RIGHT - _LEFT)
    every = next((step for step in (1, 2, 4, 5, 10, 20) if step >= crowded), math.ceil(crowded))
    ticks = [place + (0.0 if has_bounds else 0.5) for place in range(len(labels))]
    axes.set_xticks(ticks[::every], [clean(label) for label in labels[::every]])
    _names(drawing, x_name, "rows")
    return drawing.svg(title)


def histogram(title: str, series: Sequence[Counts], bounds: Sequence[float], x_name: str) -> Markup:
    """Return how many values are in each stretch [bounds[i], bounds[i + 1]); the end columns hold those beyond."""
    counted, inner = [], bounds[1:-1]
    for one in series:
        counts = [0.0] * (len(bounds) - 1)
        for value in one.values:
            counts[bisect_right(inner, value)] += 1
        counted.append(Counts(one.name, counts))
    labels = [short(bound) for bound in bounds]
    if any(value > bounds[-1] for one in series for value in one.values):
        labels[-1] += "+"
    return column_chart(title, labels, counted, x_name)


def round_bounds(values: Sequence[float]) -> list[float]:
    """Return the bounds of about 20 round stretches from 0. Up to 2 % of the values, the largest, may be beyond."""
    from matplotlib.ticker import MaxNLocator

    ordered = sorted(values)
    top = ordered[min(len(ordered) - 1, math.ceil(0.98 * len(ordered)))] if ordered else 1.0
    ticks = MaxNLocator(20, steps=ROUND_STEPS, integer=True).tick_values(0, max(top, 1.0))
    return [float(tick) for tick in ticks]


def _thin(line: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    size = math.ceil(len(line) / MOST_POINTS)
    stretches = [line[start : start + size] for start in range(0, len(line), max(1, size))]
    # A value that is not finite makes the mean of its stretch not finite, so the gap remains visible.
    means = [(part[-1][0], sum(y for _, y in part) / len(part)) for part in stretches]
    return [(x, y if abs(y) < LARGEST else math.nan) for x, y in means]


def _scale(axes: Axes, low: float, high: float, *, logarithmic: bool = False) -> None:
    """Set a grid and the ticks of both axes. The vertical scale has round ends, and begins at 0 if `low` is near it."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    axes.xaxis.set_major_locator(MaxNLocator(5, steps=ROUND_STEPS))
    if logarithmic:
        decades = math.log10(high / low)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2.5 else (1,), numticks=8))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_ylim(low / 1.2, high * 1.2)
    else:
        ticks = MaxNLocator(5, steps=ROUND_STEPS).tick_values(0 if 0 <= low < high - low else low, high)
        axes.set_yticks(ticks)
        axes.set_ylim(ticks[0], ticks[-1])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: short(value))
    axes.grid(axis="y", color=figures.RULE)


def _names(drawing: Drawing, x_name: str, y_name: str) -> None:
    drawing.text(x_name, _RIGHT, HEIGHT - 6, "right")
    drawing.text(y_name, 2, 11, "left")
