"""Graph edit distance: by hand, against networkx run to its end, and its bounds."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import networkx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qdsft.metrics.break_official.ged import Graph, graph_edit_distance, lexical_ged, structural_ged
from qdsft.metrics.break_official.lexical import match_ratio

GOLD = ("cubes", "spheres", "number of #1", "number of #2", "which is highest of #3 , #4")


def words(predicted: str, gold: str) -> float:
    """A similarity that needs no lemmas."""
    return match_ratio(predicted.split(" "), gold.split(" "))


def exhaustive(predicted: Graph, gold: Graph, similarity: Callable[[str, str], float]) -> float:
    """The normalised distance of networkx, run to the end of its search."""
    sides = []
    for graph in (predicted, gold):
        side = networkx.DiGraph()
        side.add_nodes_from((at, {"label": label}) for at, label in enumerate(graph.labels))
        side.add_edges_from(sorted(graph.edges))
        sides.append(side)
    cost = float("nan")
    for cost in networkx.optimize_graph_edit_distance(  # noqa: B007
        *sides, node_subst_cost=lambda one, other: 1 - similarity(one["label"], other["label"])
    ):
        pass
    return float(cost) / max(predicted.size, gold.size, 1)


def random_steps(chance: random.Random, longest: int, self_loops: bool) -> list[str]:
    """Steps that refer to any others, one that is not there among them."""
    count = chance.randint(1, longest)
    steps = []
    for number in range(1, count + 1):
        others = [other for other in range(1, count + 2) if self_loops or other != number]
        told = [chance.choice(("cubes", "red", "of", "number", "the")) for _ in range(chance.randint(0, 3))]
        told += [f"#{other}" for other in chance.sample(others, min(len(others), chance.choice((0, 1, 1, 2))))]
        steps.append(" ".join(told))
    return steps


def test_nodes_stand_in_the_order_of_the_edges() -> None:
    graph = Graph.of(["a", "b", "c #1 and #1", "d #3 #2"])
    assert graph.labels == ("c @@1@@ and @@1@@", "a", "d @@3@@ @@2@@", "b")
    assert graph.edges == {(0, 1), (2, 0), (2, 3)}
    assert graph.size == 7


@pytest.mark.parametrize("reference", ["#7", "#0", "#" + "9" * 5000])
def test_a_reference_to_no_step_is_a_node_without_text(reference: str) -> None:
    graph = Graph.of(["a", f"b {reference}"])
    assert graph.labels[1:] == ("", "a")
    assert graph.edges == {(0, 1)}


def test_references_are_numbers_and_may_be_the_own_step() -> None:
    assert Graph.of(["a", "b #01"]).edges == Graph.of(["a", "b #1"]).edges
    assert Graph.of(["a #1"]).edges == {(0, 0)}
    assert Graph.of(["x"] * 11 + ["a #11"]).labels[:2] == ("a @@11@@", "x")


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [
        (GOLD, 0.0),
        (("a", "b", "c #1", "d #2", "e #3 #4"), 0.0),
        (("b", "a", "c #2", "d #1", "e #3 #4"), 0.0),  # only renumbered
        (("a", "b", "c #1", "d #2", "e #3"), 1 / 9),  # one edge less
        (("a", "b", "c #1", "d #2", "e #3 #1"), 2 / 9),  # one edge elsewhere
        (("a", "b", "c #1", "e #3 #2"), 2 / 9),  # node and edge less
        ((*GOLD, "f #5"), 2 / 11),  # node and edge more: of the larger graph
        ((), 1.0),
    ],
)
def test_structural_ged_by_hand(predicted: Sequence[str], expected: float) -> None:
    found = structural_ged(predicted, GOLD)
    assert found.value == pytest.approx(expected, abs=1e-12)
    assert (found.lower, found.exact) == (found.value, True)


def test_the_direction_of_references_counts() -> None:
    assert structural_ged(["a", "b", "x #1 #2"], ["x", "a #1", "b #1"]).value == pytest.approx(2 / 5)


def test_lexical_ged_by_hand() -> None:
    # The node " cubes" has the words "" and "cubes": 1 - 2/3 against "cubes"; "number of @@1@@" is the same.
    assert lexical_ged([" cubes", "number of #1"], ["cubes", "number of #1"], words).value == pytest.approx(1 / 9)
    # Renumbering is free for the graph and not for the words: 1 - 4/6 for "c @@2@@ x", 2 nodes, 1 edge.
    assert lexical_ged(["c #2 x", "a"], ["a", "c #1 x"], words).value == pytest.approx((1 - 4 / 6) / 3)


def test_nothing_against_nothing_is_no_distance() -> None:
    assert structural_ged([], []).value == 0.0
    assert lexical_ged([], ["a", "b #1"], words).value == 1.0


def test_a_self_loop_stands_for_any_edge_settled_with_it() -> None:
    # As networkx counts: the first pair's loop waits for the second pair, whose edge it is then taken for.
    assert structural_ged(["a", "b #2"], ["a", "b #1"]).value == 0.0
    assert structural_ged(["a #1"], ["a"]).value == pytest.approx(1 / 2)


@pytest.mark.parametrize("lexical", [False, True])
@pytest.mark.parametrize("self_loops", [False, True])
def test_every_value_is_that_of_networkx(lexical: bool, self_loops: bool) -> None:
    chance = random.Random(7)
    similarity = words if lexical else lambda one, other: 1.0
    seen_loops = 0
    for _ in range(60):
        one, other = (Graph.of(random_steps(chance, 4, self_loops)) for _ in range(2))
        seen_loops += any(i == j for i, j in one.edges | other.edges)
        found = graph_edit_distance(one, other, similarity, 60)
        assert found.value == pytest.approx(exhaustive(one, other, similarity), abs=1e-9), (one, other)
        assert found.exact
    assert (seen_loops > 10) == self_loops


RANDOM = st.randoms(use_true_random=False)
STEPS = st.builds(random_steps, RANDOM, st.integers(min_value=1, max_value=6), st.just(False))
SOME_LOOPS = st.builds(random_steps, RANDOM, st.integers(min_value=1, max_value=4), st.booleans())


@settings(max_examples=60, deadline=None)
@given(STEPS | SOME_LOOPS, STEPS | SOME_LOOPS, st.sampled_from([1e-9, 1e-3]))
def test_a_search_cut_short_bounds_the_distance(one: list[str], other: list[str], seconds: float) -> None:
    for similarity in (words, lambda predicted, gold: 1.0):
        exact, cut = (
            graph_edit_distance(Graph.of(one), Graph.of(other), similarity, allowed) for allowed in (60, seconds)
        )
        assert exact.exact
        assert cut.lower - 1e-9 <= exact.value <= cut.value + 1e-9
        assert cut.exact == (cut.lower == cut.value)


def test_a_search_cut_short_says_so() -> None:
    chance = random.Random(1)
    one, other = (
        [*random_steps(chance, 14, False), *(f"x #{chance.randint(1, 12)}" for _ in range(9))] for _ in range(2)
    )
    found = structural_ged(one, other, 1e-9)
    assert not found.exact
    assert 0 <= found.lower < found.value


@settings(max_examples=60, deadline=None)
@given(STEPS, STEPS)
def test_structural_ged_is_symmetric_without_self_loops(one: list[str], other: list[str]) -> None:
    assert structural_ged(one, other).value == pytest.approx(structural_ged(other, one).value, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(STEPS, STEPS)
def test_without_self_loops_the_structural_distance_is_the_lexical_one_at_most(
    one: list[str], other: list[str]
) -> None:
    assert structural_ged(one, one).value == lexical_ged(other, other, words).value == 0
    assert structural_ged(one, other).value <= lexical_ged(one, other, words).value + 1e-9


def test_a_babbling_prediction_is_scored() -> None:
    babble = [f"the number of #{number}" for number in range(120)]
    found = structural_ged(babble, GOLD, 2)
    assert 0.9 < found.value <= 1.0
