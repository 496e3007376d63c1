"""Places in the reference graph: everything is drawn, and nothing is on top of a box."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qdsft.data.decomposition import Decomposition
from qdsft.scoring.report.graph_layout import MOST_LINES, MOST_STEPS, PER_ROW, WIDTH, Layout, Point, lay_out, rows_of

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


def curve(points: list[Point]) -> Iterator[Point]:
    """Points along a chain of cubic Bezier curves."""
    for start in range(0, len(points) - 3, 3):
        for share in (place / 20 for place in range(21)):
            here = points[start : start + 4]
            while len(here) > 1:  # de Casteljau
                here = [(a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share) for a, b in pairwise(here)]
            yield here[0]


def check(layout: Layout, decomposition: Decomposition) -> None:
    """Everything is in the picture, boxes do not overlap, and arrows end at their steps and cross no box."""
    boxes = [*layout.boxes.values(), *layout.missing_boxes.values()]
    for box in boxes:
        assert box.x >= 0 and box.x + box.width <= layout.width
        assert box.y >= 0 and box.y + box.height <= layout.height
    for one, other in combinations(boxes, 2):
        beside = one.x + one.width <= other.x or other.x + other.width <= one.x
        apart = one.y + one.height <= other.y or other.y + other.height <= one.y
        assert beside or apart, f"{one.step} is on {other.step}"
    for arrow in layout.arrows:
        target, (x, y) = layout.boxes[arrow.target], arrow.tip
        assert target.x - 1 <= x <= target.x + target.width + 1 and target.y - 1 <= y <= target.y + target.height + 1
        for x, y in curve(arrow.points):
            assert 0 <= x <= layout.width and 0 <= y <= layout.height
            inside = [box for box in boxes if box.x + 2 < x < box.x + box.width - 2]
            on = [box.step for box in inside if box.y + 2 < y < box.y + box.height - 2]
            assert on == [], f"the arrow to {arrow.target} runs over {on}"
    drawn = {(arrow.source, arrow.target) for arrow in layout.arrows if arrow.source is not None}
    drawn |= {(source, step) for step, sources in layout.missing.items() for source in sources}
    assert drawn == {edge for edge in decomposition.edges if edge[1] <= MOST_STEPS}
    assert {arrow.target for arrow in layout.arrows if arrow.source is None} == set(layout.missing)


@pytest.mark.parametrize("found", [(), ("A?",), CHAIN, PARALLEL, FAULTY, ("#1", "#2")], ids=range(6))
def test_nothing_is_on_a_box(found: tuple[str, ...]) -> None:
    decomposition = Decomposition(found)
    check(lay_out(decomposition), decomposition)


@settings(deadline=None)
@given(steps)
def test_nothing_is_on_a_box_whatever_a_model_wrote(found: list[str]) -> None:
    decomposition = Decomposition(tuple(found))
    check(lay_out(decomposition), decomposition)


def test_the_check_sees_an_arrow_that_runs_over_a_box() -> None:
    decomposition = Decomposition(("A?", "B #1?", "C #1 #2?"))
    layout = lay_out(decomposition)
    middle = layout.boxes[2]
    x = middle.x + middle.width / 2
    layout.arrows[0].points[:] = [(x, 0.0), (x, 0.0), (x, layout.height), (x, layout.height)]
    with pytest.raises(AssertionError, match="runs over"):
        check(layout, decomposition)


def test_a_step_is_below_the_steps_it_refers_to() -> None:
    found = [f"Step {n}" for n in range(1, 11)]
    chance = random.Random(0)
    for target in range(2, 11):
        found[target - 1] += "".join(f" #{source}" for source in chance.sample(range(1, target), min(2, target - 1)))
    layout = lay_out(Decomposition(tuple(found)))
    for source, target in Decomposition(tuple(found)).edges:
        assert layout.boxes[source].y + layout.boxes[source].height < layout.boxes[target].y


def test_a_row_has_few_boxes() -> None:
    rows = rows_of(15, Decomposition(PARALLEL).edges)
    assert max(map(len, rows)) == PER_ROW and [step for row in rows for step in row] == list(range(1, 16))


def test_arrows_of_a_tree_do_not_cross() -> None:
    layout = lay_out(Decomposition(("A?", "B?", "C #2", "D #1", "E #3 #4")))
    x = {step: box.x for step, box in layout.boxes.items()}
    assert (x[1] < x[2]) == (x[4] < x[3])


@pytest.mark.parametrize("found", [CHAIN[:5], ("Number " * 9, "Which " * 20 + "#2", "Is #1 larger than #2?")])
def test_a_usual_graph_is_no_wider_than_a_phone(found: tuple[str, ...]) -> None:
    assert lay_out(Decomposition(found)).width == WIDTH


def test_absurd_graphs_are_bounded() -> None:
    layout = lay_out(Decomposition(tuple(f"Step {n} {'x' * 9999} #{n - 1} #{n + 1} #7" for n in range(1, 1001))))
    assert len(layout.boxes) == MOST_STEPS and layout.left_out == 1000 - MOST_STEPS
    assert max(len(box.lines) for box in layout.boxes.values()) == MOST_LINES


def test_threads_may_draw_at_once() -> None:
    decompositions = [Decomposition(DENSE[:count]) for count in range(1, 9)] * 4
    alone = [lay_out(decomposition) for decomposition in decompositions]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lay_out, decompositions)) == alone
