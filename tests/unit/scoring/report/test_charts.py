"""Charts: what they show is what they were given, and any input gives well-formed SVG."""

from __future__ import annotations

import math
import re

import pytest
from helpers.svg_checks import of_class, parse, texts
from hypothesis import given, settings
from hypothesis import strategies as st

from qdsft.scoring.report.charts import (
    HEIGHT,
    MOST_POINTS,
    Counts,
    Series,
    column_chart,
    histogram,
    line_chart,
    round_bounds,
)

HOSTILE = "</svg><script>x</script>&\x00"


def vertices(path: str | None) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML] (-?[\d.]+) (-?[\d.]+)", path or "")]


def shapes(drawing: str, name: str) -> list[str]:
    """The path of each mark of a class."""
    return [path.get("d") or "" for mark in of_class(parse(drawing), name) if (path := mark.find("path")) is not None]


def heights(drawing: str) -> list[float]:
    ends = [[y for _, y in vertices(path)] for path in shapes(drawing, "bar")]
    return [max(end) - min(end) for end in ends]


def test_a_line_falls_where_its_values_do() -> None:
    points = [(1.0, 4.0), (2.0, 2.0), (3.0, 1.0)]
    drawing = line_chart("loss", [Series("training", points)], "step", "nats")
    (x1, y1), (x2, y2), (x3, y3) = vertices(shapes(drawing, "line")[0])
    assert x1 < x2 < x3 and y1 < y2 < y3 <= HEIGHT  # y increases downwards in SVG
    assert (y2 - y1) == pytest.approx(2 * (y3 - y2), abs=0.3)
    found = texts(parse(drawing))
    assert "step" in found and "nats" in found and "training" not in found


def test_two_lines_share_their_axes_and_are_named() -> None:
    first, second = Series("training", [(0, 1.0), (10, 0.5)]), Series("held out", [(5, 0.75)])
    drawing = line_chart("loss", [first, second], "step", "nats")
    assert {"training", "held out"} <= set(texts(parse(drawing)))
    (dot,) = of_class(parse(drawing), "second")[0].iter("use")
    middle = [(a + b) / 2 for a, b in zip(*vertices(shapes(drawing, "first")[0]), strict=True)]
    assert [float(dot.get("x") or 0), float(dot.get("y") or 0)] == pytest.approx(middle, abs=0.2)


def test_a_value_that_is_not_finite_is_a_gap() -> None:
    points = [(1, 1.0), (2, math.nan), (3, 2.0), (4, 3.0), (5, math.inf)]
    drawing = line_chart("loss", [Series("a", points)], "x", "y")
    assert [len(vertices(part)) for part in re.findall(r"M[^M]+", shapes(drawing, "line")[0])] == [1, 2]
    assert len(list(of_class(parse(drawing), "line")[0].iter("use"))) == 3


def test_a_long_line_is_thinned_but_keeps_its_ends_and_its_gap() -> None:
    points = [(float(step), float(step % 977)) for step in range(100_000)]
    points[50_000] = (50_000.0, math.nan)
    drawing = line_chart("loss", [Series("a", points)], "x", "y")
    (path,) = shapes(drawing, "line")
    assert MOST_POINTS / 2 <= len(vertices(path)) <= MOST_POINTS and path.count("M") == 2
    assert len(drawing) < 20_000


def test_a_logarithmic_scale_only_if_values_span_much() -> None:
    def said(values: list[float]) -> list[str]:
        return texts(parse(line_chart("loss", [Series("a", list(enumerate(values)))], "x", "nats", log=True)))

    assert "nats, log scale" in said([0.01, 4]) and {"0.01", "0.1", "1"} <= set(said([0.01, 4]))
    assert "nats" in said([1, 4]) and "nats" in said([0, 4])


def test_a_scale_begins_at_0_if_the_values_are_near_it() -> None:
    near, far = ([Series("a", [(0, low), (1, 9.0)])] for low in (1.0, 8.0))
    assert "0" in texts(parse(line_chart("a", near, "x", "y")))[2:]
    assert "8.2" in texts(parse(line_chart("a", far, "x", "y")))


def test_columns_are_as_high_as_their_counts() -> None:
    series = [Counts("predicted", [2, 4, 0]), Counts("gold", [1, 1, 1])]
    drawing = column_chart("steps", ["1", "2", "3"], series, "steps")
    low, high = heights(drawing)
    assert high == pytest.approx(2 * low, abs=0.2)
    root = parse(drawing)
    (outline,) = shapes(drawing, "outline")
    ends = [y for _, y in vertices(outline)]
    assert max(ends) - min(ends) == pytest.approx(low / 2, abs=0.2)
    assert {"1", "2", "3", "predicted", "gold", "steps", "rows"} <= set(texts(root))
    assert [bar[0].text for bar in of_class(root, "bar")] == ["1: 2 predicted", "2: 4 predicted"]


def test_crowded_labels_are_left_out_evenly() -> None:
    labels = [str(number) for number in range(1000, 1030)]
    found = texts(parse(column_chart("a", labels, [Counts("rows", [1.0] * 30)], "x")))
    assert {"1000", "1004", "1008"} <= set(found) and "1001" not in found


def test_a_histogram_counts_every_value_once() -> None:
    values = [Counts("rows", [0, 0.19, 0.2, 0.99, 1.0, 7, -1])]
    drawing = histogram("scores", values, [0, 0.2, 0.4, 0.6, 0.8, 1], "SARI")
    said = [bar[0].text for bar in of_class(parse(drawing), "bar")]
    assert said == ["0 to 0.2: 3 rows", "0.2 to 0.4: 1 rows", "0.8 to 1+: 3 rows"]


@settings(deadline=None)
@given(st.lists(st.integers(0, 50_000), max_size=50))
def test_round_bounds_hold_nearly_all_and_are_few(values: list[int]) -> None:
    bounds = round_bounds(values)
    assert bounds[0] == 0 and 2 <= len(bounds) <= 24
    assert sum(value > bounds[-1] for value in values) <= 0.02 * len(values)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.floats(0, 1e9), st.floats() | st.integers(-9, 9)), max_size=40),
    st.text(st.characters(), max_size=30),
    st.booleans(),
)
def test_any_line_can_be_drawn(points: list[tuple[float, float]], name: str, log: bool) -> None:
    series = [Series(name, sorted(points)), Series(HOSTILE, [])]
    root = parse(line_chart(name, series, name, HOSTILE, log=log))
    assert "nan" not in " ".join(path.get("d") or "" for path in root.iter("path"))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=40), st.text(st.characters(), max_size=30))
def test_any_columns_can_be_drawn(counts: list[int], name: str) -> None:
    parse(column_chart(name, [name] * len(counts), [Counts(name, counts), Counts(HOSTILE, counts[::-1])], name))


def test_charts_depend_on_their_input_alone() -> None:
    def draw() -> str:
        return histogram("a", [Counts("x", [1, 2, 3]), Counts("y", [2, 3])], round_bounds([1, 2, 3]), "z")

    assert draw() == draw()
