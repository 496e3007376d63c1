"""Rows of values: dots with intervals, and bars."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from helpers.svg_checks import of_class, parse, texts
from hypothesis import given
from hypothesis import strategies as st

from qdsft.scoring.report.row_charts import Value, bar_chart, interval_chart

ROWS: list[tuple[str, list[Value | None]]] = [
    ("SARI", [Value(0.8, (0.7, 0.9)), Value(0.4)]),
    ("valid", [Value(0.2), None]),
]


def test_dots_and_intervals_stand_where_their_values_are() -> None:
    root = parse(interval_chart("metrics", ROWS, ["tuned", "baseline"]))
    dots = [float(dot.get("cx") or 0) for dot in of_class(root, "dot") if dot.get("cy") != "7"]
    tuned, baseline, valid = dots
    (interval,) = of_class(root, "interval")
    low, high = (float(x) for x in re.findall(r"[MH]([\d.]+)", interval.get("d") or ""))
    assert (low + high) / 2 == pytest.approx(tuned, abs=0.1)
    assert (
        (tuned - baseline) == pytest.approx(2 * (baseline - valid), abs=0.2) == pytest.approx(2 * (high - low), abs=0.2)
    )
    assert {"SARI", "valid", "tuned", "baseline", "0.800", "0.200"} <= set(texts(root))
    rows = [title.text for title in root.iter("title")]
    assert "SARI: tuned 0.800 (0.700 to 0.900), baseline 0.400" in rows
    assert "valid: tuned 0.200, baseline not measured" in rows


def test_bars_are_as_long_as_their_values() -> None:
    root = parse(bar_chart("groups", ROWS, ["tuned", "baseline"]))
    long, short = (float(bar.get("width") or 0) for bar in of_class(root, "bar")[:2])
    assert long == pytest.approx(4 * short, abs=0.2)


def test_one_series_needs_no_legend() -> None:
    root = parse(bar_chart("groups", [("en", [Value(0.5)])], ["tuned"]))
    assert "tuned" not in texts(root)


def test_a_value_above_1_widens_the_scale() -> None:
    root = parse(interval_chart("distances", [("graph edit distance", [Value(3.2, (2.0, 4.5))])], ["tuned"]))
    assert "4" in texts(root) and "0.8" not in texts(root)


@pytest.mark.parametrize("draw", [interval_chart, bar_chart])
@given(rows=st.lists(st.tuples(st.text(st.characters()), st.floats(0, 1e6)), max_size=5))
def test_any_names_and_values_can_be_drawn(draw: Callable[..., str], rows: list[tuple[str, float]]) -> None:
    named = [(name, [Value(value, (value, value * 2)), None]) for name, value in rows]
    parse(draw("any", named, ["</svg>", "\x00"]))
