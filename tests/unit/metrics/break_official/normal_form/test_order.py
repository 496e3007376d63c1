"""The graph of a decomposition, the levels of its nodes, and the numbering of the normal form."""

from __future__ import annotations

from graphlib import CycleError

import pytest
from helpers.hand_made import made_graph, tokens

from qdsft.metrics.break_official.normal_form.graph import Graph, Node, RewriteError, in_steps, step_graph
from qdsft.metrics.break_official.normal_form.order import levels, renumber, unwound


def test_nodes_come_in_the_order_of_the_edges_then_the_rest() -> None:
    made = step_graph(["a", "b", "x #2", "y #1 #3 #1"])
    assert list(made) == [3, 2, 4, 1]
    assert list(made[4].successors) == [1, 3]
    assert list(made[3].users) == [4]
    assert made[3].text == "x @@2@@"


def test_a_number_that_is_no_step_gets_an_empty_node() -> None:
    made = step_graph(["a", "x #5"])
    assert list(made) == [2, 5, 1]
    assert made[5].text == ""
    assert 10**9 in step_graph(["#" + "9" * 5000])


def test_labels_are_steps_only_if_numbered_through() -> None:
    assert in_steps({2: "b", 1: "a"}) == ["a", "b"]
    assert in_steps({}) == []
    assert in_steps({1: "a", 3: "b"}) is None
    assert in_steps({0: "a", 1: "b"}) is None


def test_a_new_node_has_the_number_after_the_last() -> None:
    graph = made_graph(_1="a", _2="b")
    assert graph.add(1, tokens("c/NN of/IN @@2@@")) == 3
    assert list(graph[1].successors) == [3]
    assert list(graph[3].successors) == [2]


def test_a_new_node_may_take_the_place_of_one_that_a_dangling_reference_made() -> None:
    graph = made_graph(_1="x @@3@@", _3="old")
    assert graph.add(1, tokens("new")) == 3
    assert graph[3].final_label == "new"
    assert len(graph) == 2


def test_edges_follow_the_text_also_inside_of_words() -> None:
    graph = made_graph(_1="a", _2="b @@1@@")
    graph.refer(2, tokens("x@@1@@y"))
    assert list(graph[2].successors) == [1]
    graph.refer(2, [])
    assert not graph[2].successors and not graph[1].users
    with pytest.raises(RewriteError):
        graph.refer(2, tokens("x@@7@@y"))
    with pytest.raises(RewriteError):
        graph.disconnect(2, 1)


def test_nodes_are_numbered_by_level_and_label_and_equal_ones_merged() -> None:
    made = made_graph(_1="z", _2="a", _3="c/NN of/IN @@1@@", _4="z", _5="c/NN of/IN @@4@@", _6="UNION(@@3@@,@@5@@)")
    assert levels(made) == [[1, 2, 4], [3, 5], [6]]
    assert renumber(made) == {1: "a", 2: "z", 3: "c of @@2@@", 4: "UNION(@@3@@,@@3@@)"}


def test_a_level_is_counted_by_all_edges_not_only_those_of_the_label() -> None:
    made = made_graph(_1="a", _2="b @@1@@", _3="UNION(@@1@@,@@1@@)")
    made.connect(3, 2)
    assert levels(made) == [[1], [2], [3]]


def test_a_circle_above_the_leaves_keeps_its_numbers() -> None:
    made = made_graph(_2="b/NN @@1@@", _1="a/NN @@2@@", _3="c", _4="FILTER(@@1@@,@@3@@)")
    made.connect(1, 3)
    with pytest.raises(CycleError):
        levels(made)
    assert renumber(made) == {1: "a @@2@@", 2: "b @@1@@", 3: "c", 4: "FILTER(@@1@@,@@3@@)"}
    own = made_graph(_1="a", _2="@@2@@ @@1@@")
    with pytest.raises(CycleError):
        levels(own)


def test_a_circle_apart_has_no_level_and_gives_way_to_new_numbers() -> None:
    # What the evaluator makes of "#2 ; #1 ; cubes": the third step is numbered 1 and takes the place of the first.
    made = made_graph(_1="@@2@@", _2="@@1@@", _3="cube")
    assert levels(made) == [[3]]
    assert renumber(made) == {1: "cube", 2: "@@1@@"}


def test_zero_is_no_step_to_refer_to_but_counts_as_a_level() -> None:
    made = made_graph(_1="a @@0@@", _0="z", _2="b @@1@@")
    assert levels(made) == [[0], [1], [2]]


def test_a_reference_inside_a_word_that_is_no_edge_cannot_be_numbered() -> None:
    made = made_graph(_1="a @@2@@", _2="x")
    made.disconnect(1, 2)
    with pytest.raises(RewriteError, match="refers to 2"):
        renumber(made)
    with pytest.raises(RewriteError, match="refers to 2"):
        unwound(made)


def test_a_long_chain_needs_no_deep_recursion() -> None:
    made = Graph({1: Node(tokens=tokens("cubes/NNS"))})
    for number in range(2, 3000):
        made[number] = Node(label=f"AGGREGATE[MAX](@@{number - 1}@@)")
        made.connect(number, number - 1)
    assert len(levels(made)) == 2999


def test_many_edges_take_no_long() -> None:
    # Every step refers to all before: raising levels one edge at a time would take minutes.
    steps = ["cubes", *(" ".join(f"#{n}" for n in range(1, number)) for number in range(2, 500))]
    assert len(levels(step_graph(steps))) == 499
