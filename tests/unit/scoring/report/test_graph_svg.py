"""The reference graph as a picture: everything is there, and nothing lies on a box."""

from __future__ import annotations

import random
import re
from itertools import combinations

import pytest
from helpers.svg_checks import of_class, parse, texts
from hypothesis import given, settings
from hypothesis import strategies as st

from qdsft.data.decomposition import Decomposition
from qdsft.scoring.report.graph_layout import LOOP, MISSING_HEIGHT, MOST_STEPS, WIDTH, Layout, lay_out, points
from qdsft.scoring.report.graph_svg import LONGEST_TITLE, draw_graph

PARALLEL = (*(f"Number {n}?" for n in range(1, 15)), "Sum of " + " ".join(f"#{n}" for n in range(1, 15)))
DENSE = tuple(f"Step {n} of " + " ".join(f"#{m}" for m in range(1, n)) for n in range(1, 16))
CHAIN = ("Who?", *(f"Who knows #{n}?" for n in range(1, 15)))
FAULTY = ("A #1 #7?", "B #3 #0", "C #1", "", "D #99999999999 #12 #4")

steps = st.lists(
    st.one_of(
        st.text(st.characters(), max_size=40),
        st.lists(st.integers(0, 30), max_size=5).map(lambda found: "".join(f"word #{n} 단어 " for n in found)),
    ),
    max_size=30,
)


def words(drawing: str) -> str:
    return "".join("".join(texts(parse(drawing))).split())


def check(layout: Layout, decomposition: Decomposition) -> None:
    """Whatever is drawn lies in the picture; boxes, with what belongs to them, and arrows keep apart."""
    boxes = layout.boxes
    for box in boxes.values():
        assert box.x >= 0 and box.x + box.room <= layout.width
        assert box.y - MISSING_HEIGHT * bool(box.missing) >= 0 and box.y + box.height <= layout.height
    for one, other in combinations(boxes.values(), 2):
        beside = one.x + one.room <= other.x or other.x + other.room <= one.x
        above = one.y + one.height < other.y - MISSING_HEIGHT * bool(other.missing)
        below = other.y + other.height < one.y - MISSING_HEIGHT * bool(one.missing)
        assert beside or above or below, f"{one.step} lies on {other.step}"
    for arrow in layout.arrows:
        target = boxes[arrow.target]
        assert arrow.tip[1] == target.y and target.x < arrow.tip[0] < target.x + target.width
        for x, y in (point for piece in arrow.pieces for point in points(piece)):
            assert 0 <= x <= layout.width and 0 <= y <= layout.height
            column = [box for box in boxes.values() if box.x < x < box.x + box.width]
            on = [box.step for box in column if box.y < y < box.y + box.height]
            assert on == [], f"the arrow to {arrow.target} runs over {on}"
    drawn = {(source, arrow.target) for arrow in layout.arrows for source in arrow.sources}
    drawn |= {(source, box.step) for box in boxes.values() for source in box.missing}
    drawn |= {(box.step, box.step) for box in boxes.values() if box.own}
    assert drawn == {edge for edge in decomposition.edges if edge[1] <= MOST_STEPS}


@pytest.mark.parametrize("found", [(), ("A?",), CHAIN, PARALLEL, DENSE, DENSE[::-1], FAULTY], ids=range(7))
def test_nothing_lies_on_a_box(found: tuple[str, ...]) -> None:
    decomposition = Decomposition(found)
    check(lay_out(decomposition), decomposition)


@settings(deadline=None)
@given(steps)
def test_nothing_lies_on_a_box_whatever_a_model_wrote(found: list[str]) -> None:
    decomposition = Decomposition(tuple(found))
    check(lay_out(decomposition), decomposition)
    parse(draw_graph(decomposition, "any", range(0, 40, 2)))


def test_the_check_sees_an_arrow_that_runs_over_a_box() -> None:
    decomposition = Decomposition(("A?", "B #1?", "C #1 #2?"))
    layout = lay_out(decomposition)
    middle = layout.boxes[2]
    layout.arrows[0].pieces.append(((middle.x + 9, 0.0), (middle.x + 9, layout.height)))
    with pytest.raises(AssertionError, match=r"runs over \[2\]"):
        check(layout, decomposition)


def test_a_step_stands_below_those_it_refers_to() -> None:
    found = [f"Step {n}" for n in range(1, 11)]
    chance = random.Random(0)
    for target in range(2, 11):
        found[target - 1] += "".join(f" #{source}" for source in chance.sample(range(1, target), min(2, target - 1)))
    layout = lay_out(Decomposition(tuple(found)))
    for source, target in Decomposition(tuple(found)).edges:
        assert layout.boxes[source].y + layout.boxes[source].height < layout.boxes[target].y


def test_arrows_of_a_tree_do_not_cross() -> None:
    layout = lay_out(Decomposition(("A?", "B?", "C #2", "D #1", "E #3 #4")))
    x = {step: box.x for step, box in layout.boxes.items()}
    assert (x[1] < x[2]) == (x[4] < x[3])


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
    assert bad == ["step 2 uses #3", "1", "step 1 refers to itself", "2", "4", "5"]
    missing = [group[0].text for group in of_class(root, "missing")]
    assert missing == ["no such step: #7", "no such step: #0", "no such step: #12, #1000000000"]
    assert "(empty)" in texts(root)


def test_ways_back_up_share_a_lane_where_they_do_not_meet() -> None:
    forward = tuple(f"Step {n} #{n + 1}" if n % 4 == 1 else f"Step {n} #{n - 1}" for n in range(1, 21))
    assert len([arrow for arrow in lay_out(Decomposition(forward)).arrows if arrow.backward]) == 5
    assert lay_out(Decomposition(forward)).width == WIDTH


def test_long_steps_are_cut_and_many_are_counted() -> None:
    long = "단어 " * 3000
    root = parse(draw_graph(Decomposition((long, "x" * 10_000)), "long"))
    assert root.get("width") == f"{WIDTH:g}" and float(root.get("height") or 0) < 200
    assert len([text for text in texts(root) if text.endswith("…")]) == 2
    titles = [group[0].text or "" for group in of_class(root, "box")]
    assert titles[0].startswith("1. 단어 단어") and len(titles[0]) == LONGEST_TITLE + 4
    root = parse(draw_graph(Decomposition(tuple(f"Again #{n}" for n in range(1, 501))), "endless"))
    assert len(of_class(root, "box")) == MOST_STEPS and "and 476 more steps" in texts(root)


def test_no_steps_are_said() -> None:
    assert texts(parse(draw_graph(Decomposition(()), "nothing"))) == ["no steps"]


def test_a_loop_has_room() -> None:
    one, two = lay_out(Decomposition(("A #1", "B #2"))).boxes.values()
    assert one.own and two.own and one.x + one.width + LOOP <= two.x


def test_markup_in_steps_stays_text() -> None:
    hostile = '</text></svg><script>alert("#1")</script>'
    drawing = draw_graph(Decomposition((hostile, "b\x00\ud800 #1")), hostile)
    assert "<script" not in drawing and words(drawing) == f"1{hostile}2b\ufffd\ufffd#1"


def test_the_drawing_depends_on_its_input_alone() -> None:
    assert draw_graph(Decomposition(DENSE), "a", {3, 1, 2}) == draw_graph(Decomposition(DENSE), "a", {1, 2, 3})
