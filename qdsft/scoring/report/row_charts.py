"""Charts with a row per label: values with their intervals, and bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from qdsft import figures
from qdsft.scoring.report.drawing import CLASSES, SIZE, WIDTH, Drawing, short
from qdsft.scoring.report.text import clean, text_width, wrap

if TYPE_CHECKING:
    from matplotlib.artist import Artist

_ROW, _RIGHT = 24.0, 312.0
_COLORS = (figures.FIRST, figures.SECOND)


@dataclass(frozen=True)
class Value:
    """A value with its interval, if it has one."""

    value: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class ChartRow:
    """A label with the value of each of one or two series; None where a series has none."""

    label: str
    values: Sequence[Value | None]


def interval_chart(title: str, rows: Sequence[ChartRow], names: Sequence[str]) -> Markup:
    """Return dots with intervals for one or two series, on a scale from 0 to 1 or further."""
    drawing = _new(rows, names)

    def dot(value: float, y: float, series: int) -> Artist:
        (artist,) = drawing.axes.plot([value], [y], "o", color=_COLORS[series], markersize=8, markeredgewidth=1.5)
        artist.set_markerfacecolor((figures.FIRST, figures.PAPER)[series])
        return artist

    for place, row in enumerate(rows):
        for series, value in enumerate(row.values):
            if value is None:
                continue
            y = place + (0.0 if len(row.values) == 1 else (-0.17, 0.2)[series])
            if value.interval:
                (line,) = drawing.axes.plot(value.interval, [y, y], color=_COLORS[series], linewidth=2.5)
                drawing.mark(line, f"interval {CLASSES[series]}")
            drawing.mark(dot(value.value, y, series), f"dot {CLASSES[series]}", _note(row, names[series], value))
    if len(names) > 1:
        drawing.legend([dot(math.nan, 0, series) for series in range(len(names))], names)
    return drawing.svg(title)


def bar_chart(title: str, rows: Sequence[ChartRow], names: Sequence[str]) -> Markup:
    """Return bars on a scale from 0 to 1 or further; the second series is a mark across the bar."""
    drawing = _new(rows, names)

    def bar(value: float, y: float) -> Artist:
        return drawing.axes.barh([y], [value], 0.58, color=figures.BAR).patches[0]

    def mark(value: float, y: float) -> Artist:
        return drawing.axes.plot([value], [y], "|", color=figures.INK, markersize=20, markeredgewidth=2.5)[0]

    for place, row in enumerate(rows):
        for draw, class_, name, value in zip(
            (bar, mark), ("bar first", "mark second"), names, row.values, strict=False
        ):
            if value is not None:
                drawing.mark(draw(value.value, place), class_, _note(row, name, value))
    if len(names) > 1:
        drawing.legend([bar(math.nan, 0), mark(math.nan, 0)], names)
    return drawing.svg(title)


def _new(rows: Sequence[ChartRow], names: Sequence[str]) -> Drawing:
    """Return axes with the labels of the rows, the values of the first series, and a scale for all values."""
    from matplotlib.ticker import MaxNLocator

    left = min(130.0, max([40.0, *(text_width(row.label, SIZE) + 12 for row in rows)]))
    top = 30.0 if len(names) > 1 else 10.0
    bottom = top + _ROW * len(rows)
    drawing = Drawing.new(bottom + 22, left, _RIGHT, top, max(bottom, top + 1))
    axes = drawing.axes
    values = [value for row in rows for value in row.values if value is not None]
    tops = [value.interval[1] for value in values if value.interval]
    reach = max([1.0, *tops, *(value.value for value in values)])
    ticks = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(0, reach)
    axes.set_xlim(0, ticks[-1])
    axes.set_xticks(ticks, [short(tick) for tick in ticks])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), [wrap(clean(row.label), left - 10, SIZE, 1)[0] for row in rows])
    axes.spines["bottom"].set_visible(False)
    axes.grid(axis="x", color=figures.RULE)
    for place, row in enumerate(rows):
        if row.values[0] is not None:
            drawing.text(f"{row.values[0].value:.3f}", WIDTH - 2, top + _ROW * (place + 0.5) + 4, "right")
    return drawing


def _note(row: ChartRow, name: str, value: Value) -> str:
    interval = f" ({value.interval[0]:.3f} to {value.interval[1]:.3f})" if value.interval else ""
    return f"{row.label}: {name} {value.value:.3f}{interval}"
