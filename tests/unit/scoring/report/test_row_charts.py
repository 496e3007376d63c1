"""Rows of values: dots with intervals, and bars."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from helpers.svg_checks import of_class, parse, texts
from hypothesis import given, settings
from hypothesis import strategies as st

from qdsft.scoring.report.row_charts import ChartRow, Value, bar_chart, interval_chart

ROWS = [
    ChartRow("SARI", [Value(0.8, (0.7, 0.9)), Value(0.4)]),
    ChartRow("valid", [Value(0.2), None]),
]


def places(drawing: str, name: str) -> list[float]:
    """The x of each dot or mark of a class."""
    return [float(use.get("x") or 0) for mark in of_class(parse(drawing), name) for use in mark.iter("use")]


def spans(drawing: str, name: str) -> list[float]:
    """The width of each bar or interval of a class."""
    found = []
    for mark in of_class(parse(drawing), name):
        path = mark.find("path")
        assert path is not None
        xs = [float(x) for x in re.findall(r"[ML] ([\d.]+)", path.get("d") or "")]
        found.append(max(xs) - min(xs))
    return found


def test_dots_and_intervals_are_where_their_values_are() -> None:
    drawing = interval_chart("metrics", ROWS, ["tuned", "baseline"])
    tuned, valid = places(drawing, "first")
    (baseline,) = places(drawing, "second")
    (interval,) = spans(drawing, "interval")
    assert tuned - baseline == pytest.approx(2 * (baseline - valid), abs=0.2) == pytest.approx(2 * interval, abs=0.2)
    root = parse(drawing)
    assert {"SARI", "valid", "tuned", "baseline", "0.800", "0.200"} <= set(texts(root))
    assert [title.text for title in root.iter("title")][1:] == [
        "SARI: tuned 0.800 (0.700 to 0.900)",
        "SARI: baseline 0.400",
        "valid: tuned 0.200",
    ]


def test_bars_are_as_long_as_their_values() -> None:
    drawing = bar_chart("groups", ROWS, ["tuned", "baseline"])
    long, short = spans(drawing, "bar")
    assert long == pytest.approx(4 * short, abs=0.2) and len(places(drawing, "mark")) == 1


def test_one_series_needs_no_legend() -> None:
    root = parse(bar_chart("groups", [ChartRow("en", [Value(0.5)])], ["tuned"]))
    assert "tuned" not in texts(root)


def test_a_value_above_1_widens_the_scale() -> None:
    rows = [ChartRow("graph edit distance", [Value(3.2, (2.0, 4.5))])]
    root = parse(interval_chart("distances", rows, ["tuned"]))
    assert "4" in texts(root) and "0.8" not in texts(root)


@pytest.mark.parametrize("draw", [interval_chart, bar_chart])
@settings(deadline=None, max_examples=30)
@given(rows=st.lists(st.tuples(st.text(st.characters()), st.floats(0, 1e6)), min_size=1, max_size=5))
def test_any_names_and_values_can_be_drawn(draw: Callable[..., str], rows: list[tuple[str, float]]) -> None:
    named = [ChartRow(name, [Value(value, (value, value * 2)), None]) for name, value in rows]
    parse(draw("any", named, ["</svg>", "\x00"]))
