"""Charts: what they show is what they were given, and any input gives well-formed SVG."""

from __future__ import annotations

import math
import re

import pytest
from helpers.svg_checks import of_class, parse, texts
from hypothesis import given
from hypothesis import strategies as st

from qdsft.scoring.report.charts import (
    HEIGHT,
    MOST_POINTS,
    WIDTH,
    Series,
    column_chart,
    histogram,
    line_chart,
    round_bounds,
)

HOSTILE = "</svg><script>x</script>&\x00"


def heights(drawing: str) -> list[float]:
    return [float(bar.get("height") or 0) for bar in of_class(parse(drawing), "bar") if len(bar)]


def vertices(path: str | None) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path or "")]


def test_a_line_falls_where_its_values_do() -> None:
    points = [(1.0, 4.0), (2.0, 2.0), (3.0, 1.0)]
    root = parse(line_chart("loss", [Series("training", points)], "step", "nats"))
    (line,) = of_class(root, "line")
    (x1, y1), (x2, y2), (x3, y3) = vertices(line.get("d"))
    assert x1 < x2 < x3 and y1 < y2 < y3 <= HEIGHT  # SVG's y grows downwards
    assert (y2 - y1) == pytest.approx(2 * (y3 - y2), abs=0.3)
    assert "step" in texts(root) and "nats" in texts(root) and "training" not in texts(root)


def test_two_lines_share_their_axes_and_are_named() -> None:
    first, second = Series("training", [(0, 1.0), (10, 0.5)]), Series("held out", [(5, 0.75)])
    root = parse(line_chart("loss", [first, second], "step", "nats"))
    assert {"training", "held out"} <= set(texts(root))
    (dot,) = of_class(root, "dots")[1]
    first_line = vertices(of_class(root, "line")[0].get("d"))
    middle = [(a + b) / 2 for a, b in zip(*first_line, strict=True)]
    assert [float(dot.get("cx") or 0), float(dot.get("cy") or 0)] == pytest.approx(middle, abs=0.2)


def test_a_value_that_is_not_finite_is_a_gap() -> None:
    points = [(1, 1.0), (2, math.nan), (3, 2.0), (4, 3.0), (5, math.inf)]
    (line,) = of_class(parse(line_chart("loss", [Series("a", points)], "x", "y")), "line")
    assert [len(vertices(part)) for part in re.findall(r"M[^M]+", line.get("d") or "")] == [1, 2]


def test_a_long_line_is_thinned_but_keeps_its_ends_and_its_gap() -> None:
    points = [(float(step), 1.0) for step in range(100_000)]
    points[50_000] = (50_000.0, math.nan)
    drawing = line_chart("loss", [Series("a", points)], "x", "y")
    (line,) = of_class(parse(drawing), "line")
    path = line.get("d") or ""
    assert MOST_POINTS - 5 <= len(vertices(path)) <= MOST_POINTS and path.count("M") == 2
    assert len(drawing) < 20_000


def test_columns_are_as_high_as_their_counts() -> None:
    drawing = column_chart("steps", ["1", "2", "3"], [("predicted", [2, 4, 0]), ("gold", [1, 1, 1])], "steps")
    low, high = heights(drawing)
    assert high == pytest.approx(2 * low, abs=0.2)
    root = parse(drawing)
    assert len(of_class(root, "outline")) == 2  # the line, and its sample in the legend
    assert {"1", "2", "3", "predicted", "gold", "steps", "rows"} <= set(texts(root))
    assert [bar[0].text for bar in of_class(root, "bar") if len(bar)] == ["1: 2 predicted", "2: 4 predicted"]


def test_a_histogram_counts_every_value_once() -> None:
    drawing = histogram("scores", [("rows", [0, 0.19, 0.2, 0.99, 1.0, 7, -1])], [0, 0.2, 0.4, 0.6, 0.8, 1], "SARI")
    said = [bar[0].text for bar in of_class(parse(drawing), "bar")]
    assert said == ["0 to 0.2: 3 rows", "0.2 to 0.4: 1 rows", "0.8 to 1+: 3 rows"]


@given(st.lists(st.integers(0, 50_000), max_size=50))
def test_round_bounds_hold_nearly_all_and_are_few(values: list[int]) -> None:
    bounds = round_bounds(values)
    assert bounds[0] == 0 and 2 <= len(bounds) <= 24
    assert sum(value > bounds[-1] for value in values) <= 0.02 * len(values)


@given(
    st.lists(st.tuples(st.floats(0, 1e9), st.floats() | st.integers(-9, 9)), max_size=40),
    st.text(st.characters(), max_size=30),
    st.booleans(),
)
def test_any_line_can_be_drawn(points: list[tuple[float, float]], name: str, log: bool) -> None:
    series = [Series(name, sorted(points)), Series(HOSTILE, [])]
    root = parse(line_chart(name, series, name, HOSTILE, log=log))
    assert root.get("viewBox") == f"0 0 {WIDTH:g} {HEIGHT:g}"
    assert "nan" not in " ".join(path.get("d") or "" for path in root.iter("path"))


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=40), st.text(st.characters(), max_size=30))
def test_any_columns_can_be_drawn(counts: list[int], name: str) -> None:
    parse(column_chart(name, [name] * len(counts), [(name, counts), (HOSTILE, counts[::-1])], name))


def test_charts_depend_on_their_input_alone() -> None:
    def draw() -> str:
        return histogram("a", [("x", [1, 2, 3]), ("y", [2, 3])], round_bounds([1, 2, 3]), "z")

    assert draw() == draw()
