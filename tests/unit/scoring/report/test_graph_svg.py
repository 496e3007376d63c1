"""The reference graph as a picture: every step is in it, and every text stays text."""

from __future__ import annotations

import re

import pytest
from helpers.svg_checks import of_class, parse, texts
from hypothesis import given, settings
from hypothesis import strategies as st

from qdsft.data.decomposition import Decomposition
from qdsft.scoring.report.graph_layout import MOST_STEPS, WIDTH
from qdsft.scoring.report.graph_svg import LONGEST_TITLE, draw_graph

DENSE = tuple(f"Step {n} of " + " ".join(f"#{m}" for m in range(1, n)) for n in range(1, 16))
FAULTY = ("A #1 #7?", "B #3 #0", "C #1", "", "D #99999999999 #12 #4")
HOSTILE = [
    '</text></svg><script>alert("#1")</script>',
    "<b>bold</b> <img src=x onerror=x()>",
    '", shape=star, URL="javascript:x()", label="',
    '\\"]; graph [bgcolor=red]; a -> b; //',
    "\\N \\G \\L &lt;b&gt; {{ 1 + 1 }} {% raw %}",
]


def words(drawing: str) -> str:
    return "".join("".join(texts(parse(drawing))).split())


def test_the_text_of_every_step_is_there_with_its_number_and_references_marked() -> None:
    drawing = draw_graph(Decomposition(("Who wrote it?", "그 영화 #1은 누가 만들었나요?")), "gold", [2])
    root = parse(drawing)
    assert words(drawing) == "1Whowroteit?2그영화#1은누가만들었나요?"
    assert [span.text for span in of_class(root, "ref")] == ["#1"]
    marked = of_class(root, "marked")
    assert [group[0].text for group in marked] == ["2. 그 영화 #1은 누가 만들었나요?"]
    assert [group[0].text for group in of_class(root, "arrow")] == ["step 2 uses #1"]
    assert of_class(root, "bad") == [] and root.get("aria-label") == "gold"


def test_references_that_cannot_be_followed_are_bad_and_no_others() -> None:
    root = parse(draw_graph(Decomposition(FAULTY), "predicted"))
    bad = [re.sub(r"\..*", "", group[0].text or "") for group in of_class(root, "bad")]
    lost = [f"no such step: {steps}" for steps in ("#7", "#0", "#12, #1000000000")]
    assert sorted(bad) == sorted(["step 2 uses #3", "step 1 refers to itself", *lost, "1", "2", "4", "5"])
    missing = [group[0].text or "" for group in of_class(root, "missing")]
    assert sorted(missing) == sorted(lost)
    assert "(empty)" in texts(root)


def test_long_steps_are_cut_and_many_are_counted() -> None:
    long = "단어 " * 3000
    root = parse(draw_graph(Decomposition((long, "x" * 10_000)), "long"))
    assert root.get("width") == f"{WIDTH:g}" and float(root.get("height") or 0) < 200
    assert len([text for text in texts(root) if text.endswith("…")]) == 2
    titles = [group[0].text or "" for group in of_class(root, "box")]
    assert titles[0].startswith("1. 단어 단어") and len(titles[0]) == LONGEST_TITLE + 4
    root = parse(draw_graph(Decomposition(tuple(f"Again #{n}" for n in range(1, 501))), "endless"))
    assert len(of_class(root, "box")) == MOST_STEPS and "and 476 more steps" in texts(root)


def test_a_decomposition_without_steps_is_a_sentence() -> None:
    assert texts(parse(draw_graph(Decomposition(()), "nothing"))) == ["no steps"]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_markup_and_dot_in_steps_stay_text(hostile: str) -> None:
    drawing = draw_graph(Decomposition(("x", "y #1", hostile)), hostile, [1])
    expected = draw_graph(Decomposition(("x", "y #1", "#1" if "#1" in hostile else "z")), "title", [1])
    found, harmless = ([element.tag for element in parse(svg).iter()] for svg in (drawing, expected))
    assert set(found) <= {*harmless, "tspan"} and found.count("path") == harmless.count("path")
    assert "".join(hostile.split()) in words(drawing)
    root = parse(drawing)
    del root.attrib["aria-label"]
    values = " ".join(value for element in root.iter() for value in element.attrib.values())
    assert not re.search("star|javascript|red|onerror", values) and type(drawing) is str


def test_characters_that_xml_cannot_hold_are_replaced() -> None:
    drawing = draw_graph(Decomposition(("a", "b\x00\ud800 #1")), "\x1b")
    assert words(drawing) == "1a2b\ufffd\ufffd#1" and parse(drawing)[0].text == "\ufffd"


@settings(deadline=None)
@given(st.lists(st.text(st.characters(), max_size=40), max_size=30), st.text(st.characters()))
def test_any_steps_can_be_drawn(found: list[str], title: str) -> None:
    draw_graph(Decomposition(tuple(found)), title, range(0, 40, 2)).encode("utf-8")
    parse(draw_graph(Decomposition(tuple(found)), title))


def test_the_drawing_depends_on_its_input_alone() -> None:
    assert draw_graph(Decomposition(DENSE), "a", {3, 1, 2}) == draw_graph(Decomposition(DENSE), "a", {1, 2, 3})
