"""Spans of a node become nodes, or arguments of an operation."""

from __future__ import annotations

from helpers.hand_made import made_graph

from qdsft.metrics.break_official.normal_form.spans import extract, extract_all, make_operation

NONE: frozenset[str] = frozenset()


def words(tokens: object) -> list[str]:
    return [token.text for token in tokens]  # type: ignore[attr-defined]


def test_a_span_becomes_a_node_that_is_referred_to() -> None:
    graph = made_graph(_1="balls/NNS", _2="color/NN of/IN big/JJ balls/NNS")
    assert extract(graph, 2, [(2, 4)], NONE) == [3]
    assert words(graph[2].tokens) == ["color", "of", "@@3@@"] and words(graph[3].tokens) == ["big", "balls"]
    assert list(graph[2].successors) == [3]


def test_a_reference_and_the_whole_node_stay() -> None:
    graph = made_graph(_1="balls/NNS", _2="color/NN of/IN @@1@@")
    assert extract(graph, 2, [(2, 3), (0, 3)], NONE) == []
    assert words(graph[2].tokens) == ["color", "of", "@@1@@"]


def test_a_protected_span_refuses_all() -> None:
    graph = made_graph(_1="balls/NNS", _2="color/NN of/IN big/JJ balls/NNS")
    tokens = graph[2].tokens
    assert extract_all(graph, 2, tokens, [(0, 1), (2, 4)], frozenset({"big balls"})) is None
    assert list(graph) == [1, 2]


def test_an_operation_has_references_as_arguments() -> None:
    graph = made_graph(_1="balls/NNS", _2="number/NN of/IN @@1@@ big/JJ")
    assert make_operation(graph, 2, "AGGREGATE", ["COUNT"], [(2, 3), (3, 4)], NONE) == [3]
    assert graph[2].label == "AGGREGATE[COUNT](@@1@@,@@3@@)" and not graph[2].is_filter
    assert set(graph[2].successors) == {1, 3}
    other = made_graph(_1="balls/NNS", _2="@@1@@ that/DT big/JJ")
    make_operation(other, 2, "FILTER", [], [(0, 1), (1, 3)], NONE)
    assert other[2].label == "FILTER(@@1@@,@@3@@)" and other[2].is_filter
