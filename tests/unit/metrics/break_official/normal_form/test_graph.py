"""The graph of a decomposition while rules rewrite it."""

from __future__ import annotations

import pytest

from qdsft.metrics.break_official.normal_form.graph import RewriteError, in_steps, step_graph
from qdsft.metrics.break_official.normal_form.tokens import Ref


def test_nodes_are_in_the_order_of_edges_then_of_steps() -> None:
    graph = step_graph(["a", "b", "c #2 #1", "d #9"])
    assert list(graph) == [3, 2, 1, 4, 9]
    assert graph[3].text == "c @@2@@ @@1@@" and graph[9].text == ""
    assert list(graph[3].successors) == [2, 1] and list(graph[1].users) == [3]


def test_an_added_node_is_referred_to() -> None:
    graph = step_graph(["a", "b #1"])
    assert graph.add(2, [Ref("@@1@@", 0, 1)]) == 3
    assert set(graph[2].successors) == {1, 3} and set(graph[1].users) == {2, 3}


def test_references_in_tokens_replace_the_edges() -> None:
    graph = step_graph(["a", "b", "c #1"])
    graph.refer(3, [Ref("@@02@@", 0, 1)])
    assert list(graph[3].successors) == [2] and graph[1].users == {}
    with pytest.raises(RewriteError, match="7 is no node"):
        graph.refer(3, [Ref("@@7@@", 0, 1)])


def test_a_removed_node_leaves_no_edge() -> None:
    graph = step_graph(["a", "b #1", "c #2"])
    graph.remove(2)
    assert list(graph) == [1, 3] and graph[1].users == {} and graph[3].successors == {}
    with pytest.raises(RewriteError, match="3 has lost its edge to 1"):
        graph.disconnect(3, 1)


def test_labels_are_steps_if_their_numbers_have_no_gap() -> None:
    assert in_steps({2: "b", 1: "a"}) == ["a", "b"] and in_steps({}) == []
    assert in_steps({1: "a", 3: "c"}) is None
