"""Charts as SVG that fits into a page: safe text, colours of the page, ids that no other chart has."""

from __future__ import annotations

import re

import pytest
from helpers.svg_checks import of_class, parse, texts

from qdsft.scoring.report.drawing import VARIABLES, Drawing, short
from qdsft.scoring.report.page import STYLE


def draw(title: str = "a chart", note: str = "a note") -> str:
    drawing = Drawing.new(100, 40, 350, 20, 80)
    (line,) = drawing.axes.plot([0, 1], [0, 1], marker="o", color="#0a64a4")
    drawing.mark(line, "line first", note)
    drawing.text("left", 2, 11, "left")
    drawing.legend([line], ["x" * 100])
    return drawing.svg(title)


def test_every_colour_is_a_variable_of_the_page_with_its_light_value() -> None:
    light = dict(re.findall(r"(--[\w-]+): (#\w+)", STYLE[: STYLE.index("@media")]))
    assert {variable: re.sub("^#(.)(.)(.)$", r"#\1\1\2\2\3\3", light[variable]) for variable in VARIABLES.values()} == {
        variable: color for color, variable in VARIABLES.items()
    }
    assert not re.findall(r"#[0-9a-f]{6}\b", draw()) and "var(--first)" in draw()


def test_a_mark_has_a_class_and_a_tooltip() -> None:
    (line,) = of_class(parse(draw()), "line")
    assert line[0].tag == "title" and line[0].text == "a note"
    assert parse(draw(note="")).find(".//g[@class]/title") is None


def test_text_is_text_in_the_font_of_the_page() -> None:
    root = parse(draw())
    assert texts(root)[-2:] == ["left", "xxxxxxxxxxxxxxx…"] and "font-family" not in draw()
    assert root.get("viewBox") == "0 0 360 100" and root[0].text == "a chart"


def test_ids_are_those_that_a_chart_refers_to_and_differ_between_charts() -> None:
    one, other = (set(re.findall(r'\bid="(\w+)"', draw(title))) for title in ("one", "other"))
    assert one and one == set(re.findall(r'href="#(\w+)"', draw("one")))
    assert not one & other


def test_nothing_reaches_beyond_the_chart() -> None:
    tags = {element.tag for element in parse(draw()).iter()}
    assert tags == {"svg", "title", "g", "path", "defs", "use", "text"}
    assert "xlink" not in draw() and "url(" not in draw() and "metadata" not in draw()


def test_markup_and_control_characters_stay_text() -> None:
    hostile = '</svg><script>"x"</script>$\\frac{a$\x00\ud800'
    svg = draw(hostile, hostile)
    svg.encode("utf-8")
    assert "<script" not in svg and parse(svg)[0].text == hostile.replace("\x00", "\ufffd").replace("\ud800", "\ufffd")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.05, "0.05"),
        (1500, "1.5k"),
        (2e6, "2M"),
        (5e-5, "5e-5"),
        (0.004, "0.004"),
        (-2000, "-2k"),
        (1e15, "1e15"),
    ],
)
def test_short_values(value: float, text: str) -> None:
    assert short(value) == text
