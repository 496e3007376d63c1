"""Charts with a row per label: values with their intervals, and bars."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qdsft.scoring.report.axes import Scale, short, value_scale
from qdsft.scoring.report.charts import CLASSES, SIZE, WIDTH, label_width, legend
from qdsft.scoring.report.svg import element, escape, label, number, picture, wrap

_ROW, _TOP, _RIGHT = 24.0, 30.0, 312.0


@dataclass(frozen=True)
class Value:
    """A value with its interval, if it has one."""

    value: float
    interval: tuple[float, float] | None = None


def interval_chart(title: str, rows: Sequence[tuple[str, Sequence[Value | None]]], names: Sequence[str]) -> str:
    """A row per label with a dot and its interval for each of one or two series, from 0 to 1 or further."""

    def marks(values: Sequence[Value | None], y: float, scale: Scale) -> str:
        drawn = ""
        for place, (value, class_) in enumerate(zip(values, CLASSES, strict=False)):
            if value is None:
                continue
            at = y + (0 if len(values) == 1 else (-4 if place == 0 else 5))
            low, high = value.interval or (value.value, value.value)
            bar = f"M{number(scale.at(low))} {number(at)}H{number(scale.at(high))}"
            drawn += element("path", d=bar, class_=f"interval {class_}") if value.interval else ""
            drawn += element("circle", cx=scale.at(value.value), cy=at, r=4, class_=f"dot {class_}")
        return drawn

    return _row_chart(title, rows, names, marks, "dot")


def bar_chart(title: str, rows: Sequence[tuple[str, Sequence[Value | None]]], names: Sequence[str]) -> str:
    """A row per label with a bar from 0 to 1 or further; the second series is a mark across the bar."""

    def marks(values: Sequence[Value | None], y: float, scale: Scale) -> str:
        drawn = ""
        if values[0] is not None:
            wide = scale.at(values[0].value) - scale.start
            drawn += element("rect", x=scale.start, y=y - 7, width=wide, height=14, class_="bar first")
        if len(values) > 1 and values[1] is not None:
            at = number(scale.at(values[1].value))
            drawn += element("path", d=f"M{at} {number(y - 10)}V{number(y + 10)}", class_="mark second")
        return drawn

    return _row_chart(title, rows, names, marks, "mark")


def _row_chart(
    title: str,
    rows: Sequence[tuple[str, Sequence[Value | None]]],
    names: Sequence[str],
    marks: Callable[[Sequence[Value | None], float, Scale], str],
    form: str,
) -> str:
    every = [value for _, values in rows for value in values if value is not None]
    reach = max([1.0, *(max(value.value, *(value.interval or (0.0,))) for value in every)])
    left = min(130.0, max([40.0, *(label_width(name) + 10 for name, _ in rows)]))
    scale = Scale(0.0, 1.0 if reach == 1.0 else value_scale([0.0, reach], 0, 1).high, left, _RIGHT)
    top = _TOP if len(names) > 1 else 10.0
    bottom = top + _ROW * len(rows)
    parts = []
    for value in scale.ticks():
        at = number(scale.at(value))
        parts.append(element("path", d=f"M{at} {number(top)}V{number(bottom)}", class_="rule"))
        parts.append(label(short(value), scale.at(value), bottom + 15, text_anchor="middle", font_size=SIZE))
    for place, (name, values) in enumerate(rows):
        y = top + _ROW * (place + 0.5)
        text = wrap(name, left - 8, SIZE, 1)[0]
        said = ", ".join(f"{who} {_said(value)}" for who, value in zip(names, values, strict=False))
        row = element("title", escape(f"{name}: {said}")) + label(
            text, left - 8, y + 4, text_anchor="end", font_size=SIZE
        )
        shown = "" if values[0] is None else f"{values[0].value:.3f}"
        row += marks(values, y, scale) + label(
            shown, WIDTH - 2, y + 4, text_anchor="end", font_size=SIZE, class_="value"
        )
        parts.append(element("g", row))
    if len(names) > 1:
        parts.append(legend(names, form))
    return picture("".join(parts), WIDTH, bottom + 22, title, "chart")


def _said(value: Value | None) -> str:
    if value is None:
        return "not measured"
    return f"{value.value:.3f}" + (f" ({value.interval[0]:.3f} to {value.interval[1]:.3f})" if value.interval else "")
