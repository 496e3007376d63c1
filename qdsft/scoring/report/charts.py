"""Line and column charts as SVG: no script, colours from `page.STYLE`.

The first series is the one that the page is about, drawn solid; a second one is set apart by its form as well
as by its colour (hollow, dashed, or an outline), so that neither colour vision nor a colour printer is needed.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from qdsft.metrics.meanings import LARGEST
from qdsft.scoring.report.axes import Scale, round_step, short, value_scale
from qdsft.scoring.report.svg import element, escape, label, number, picture, text_width

WIDTH, HEIGHT = 360.0, 220.0
SIZE = 11.0
MOST_POINTS = 300
"""A longer line is drawn through the means of as many stretches."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 42.0, 350.0, 30.0, 182.0
CLASSES = ("first", "second")


@dataclass(frozen=True)
class Series:
    """A named line: (x, y) in the order of x. A y that is not finite, or beyond LARGEST, leaves a gap."""

    name: str
    points: Sequence[tuple[float, float]]


def line_chart(title: str, series: Sequence[Series], x_name: str, y_name: str, *, log: bool = False) -> str:
    """One or two lines over a common x; y is logarithmic if `log` allows it and the values span much."""
    thinned = [Series(one.name, _thin(one.points)) for one in series]
    finite = [(x, y) for one in thinned for x, y in one.points if abs(y) < LARGEST]
    horizontal = Scale(*_span([x for one in thinned for x, _ in one.points]), _LEFT, _RIGHT)
    vertical = value_scale([y for _, y in finite], _BOTTOM, _TOP, log=log)
    parts = [_horizontal_grid(vertical), _x_ticks([(x, short(x)) for x in horizontal.ticks()], horizontal)]
    parts.append(_names(x_name, y_name + (", log scale" if vertical.log else "")))
    for one, class_ in zip(thinned, CLASSES, strict=False):
        places = [(horizontal.at(x), vertical.at(y) if abs(y) < LARGEST else None) for x, y in one.points]
        parts.append(element("path", d=_path(places), class_=f"line {class_}"))
        if len(places) <= 30:
            dots = [element("circle", cx=x, cy=y, r=2.5) for x, y in places if y is not None]
            parts.append(element("g", "".join(dots), class_=f"dots {class_}") if dots else "")
    if len(thinned) > 1:
        parts.append(legend([one.name for one in thinned], "line"))
    return picture("".join(parts), WIDTH, HEIGHT, title, "chart")


def column_chart(title: str, labels: Sequence[str], series: Sequence[tuple[str, Sequence[float]]], x_name: str) -> str:
    """Counts as columns; of two series the second is an outline over the first.

    `labels` names the columns, or, with one more than there are columns, the bounds between them. `series` is
    (name, a count per column), one or two.
    """
    columns = len(series[0][1])
    vertical = value_scale([0.0, *(count for _, counts in series for count in counts)], _BOTTOM, _TOP)
    wide = (_RIGHT - _LEFT) / max(1, columns)
    shift = 0.0 if len(labels) > columns else 0.5
    crowded = (max(map(label_width, labels), default=0.0) + 6) / wide
    every = next((step for step in (1, 2, 4, 5, 10, 20) if step >= crowded), math.ceil(crowded))
    ticks = [(place + shift, text) for place, text in enumerate(labels) if place % every == 0]
    parts = [
        _horizontal_grid(vertical),
        _x_ticks(ticks, Scale(0, max(1, columns), _LEFT, _RIGHT)),
        _names(x_name, "rows"),
    ]
    name, counts = series[0]
    air = min(2.0, wide / 6)
    for place, count in enumerate(counts):
        top = vertical.at(count)
        bar = element("title", escape(f"{_column_name(labels, place, columns)}: {short(count)} {name}"))
        x = _LEFT + place * wide + air
        rectangle = {"x": x, "y": top, "width": wide - 2 * air, "height": _BOTTOM - top}
        parts.append(element("rect", bar, class_="bar first", **rectangle) if count else "")
    if len(series) > 1:
        heights = [vertical.at(count) for count in series[1][1]]
        outline = "".join(f"V{number(y)}H{number(_LEFT + (place + 1) * wide)}" for place, y in enumerate(heights))
        parts.append(
            element("path", d=f"M{number(_LEFT)} {number(_BOTTOM)}{outline}V{number(_BOTTOM)}", class_="outline")
        )
        parts.append(legend([name for name, _ in series], "column"))
    return picture("".join(parts), WIDTH, HEIGHT, title, "chart")


def histogram(title: str, series: Sequence[tuple[str, Sequence[float]]], bounds: Sequence[float], x_name: str) -> str:
    """How many values lie in each stretch [bounds[i], bounds[i + 1]); lower and higher ones are in the end columns."""
    counted, inner = [], bounds[1:-1]
    for name, values in series:
        counts = [0.0] * (len(bounds) - 1)
        for value in values:
            counts[bisect_right(inner, value)] += 1
        counted.append((name, counts))
    labels = [short(bound) for bound in bounds]
    if any(value > bounds[-1] for _, values in series for value in values):
        labels[-1] += "+"
    return column_chart(title, labels, counted, x_name)


def round_bounds(values: Sequence[float], columns: int = 20) -> list[float]:
    """Bounds of at most about `columns` round stretches from 0; the largest 2 % of the values may lie beyond."""
    ordered = sorted(values)
    top = ordered[min(len(ordered) - 1, math.ceil(0.98 * len(ordered)))] if ordered else 1.0
    step = max(1.0, round_step(max(top, 1.0), columns))
    return [place * step for place in range(math.floor(max(top, 1.0) / step) + 2)]


def _thin(line: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    if len(line) <= MOST_POINTS:
        return list(line)
    size = math.ceil(len(line) / MOST_POINTS)
    stretches = [line[start : start + size] for start in range(0, len(line), size)]
    # A mean with a value that is not finite is not finite: the gap stays to be seen.
    return [(part[-1][0], sum(y for _, y in part) / len(part)) for part in stretches]


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values, default=0.0), max(values, default=1.0)
    return (low, high) if low < high else (low - 0.5, low + 0.5)


def _path(places: Sequence[tuple[float, float | None]]) -> str:
    drawn, down = "", False
    for x, y in places:
        drawn += "" if y is None else f"{'L' if down else 'M'}{number(x)} {number(y)}"
        down = y is not None
    return drawn


def _horizontal_grid(scale: Scale) -> str:
    drawn = ""
    for value in scale.ticks():
        y = scale.at(value)
        drawn += element("path", d=f"M{number(_LEFT)} {number(y)}H{number(_RIGHT)}", class_="rule")
        drawn += label(short(value), _LEFT - 6, y + 4, text_anchor="end", font_size=SIZE)
    return drawn


def _x_ticks(ticks: Sequence[tuple[float, str]], scale: Scale) -> str:
    drawn = element("path", d=f"M{number(_LEFT)} {number(_BOTTOM)}H{number(_RIGHT)}", class_="base")
    for value, text in ticks:
        x = min(scale.at(value), WIDTH - label_width(text) / 2)
        drawn += label(text, x, _BOTTOM + 15, text_anchor="middle", font_size=SIZE)
    return drawn


def _names(x_name: str, y_name: str) -> str:
    right = label(x_name, _RIGHT, HEIGHT - 6, text_anchor="end", font_size=SIZE, class_="name")
    return right + label(y_name, 2, 11, font_size=SIZE, class_="name")


def legend(names: Sequence[str], form: str) -> str:
    """The names of the series in the upper right corner, each after a sample of its form (line, column, dot, mark)."""
    drawn, x = "", WIDTH - 4
    for name, class_ in reversed(list(zip(names, CLASSES, strict=False))):
        x -= label_width(name)
        drawn += label(name, x, 11, font_size=SIZE)
        drawn += _sample(form, class_, x - 22)
        x -= 36
    return element("g", drawn, class_="legend")


def _sample(form: str, class_: str, x: float) -> str:
    if form == "dot":
        return element("circle", cx=x + 9, cy=7, r=4, class_=f"dot {class_}")
    if form == "line" or (form == "column" and class_ == "second"):
        across = f"M{number(x)} 7H{number(x + 17)}"
        return element("path", d=across, class_="outline" if form == "column" else f"line {class_}")
    if form == "mark" and class_ == "second":
        return element("path", d=f"M{number(x + 9)} 0V14", class_="mark second")
    return element("rect", x=x + 2, y=2, width=13, height=10, class_="bar first")


def _column_name(labels: Sequence[str], place: int, columns: int) -> str:
    return f"{labels[place]} to {labels[place + 1]}" if len(labels) > columns else labels[place]


def label_width(text: str) -> float:
    """About how wide a label is, in units."""
    return text_width(text, SIZE)
