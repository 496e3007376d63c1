"""The graph of a decomposition, chains of filters, and the numbering of the normal form."""

from __future__ import annotations

import pytest
from hand_made import tokens

from qdsft.metrics.normal_form.graph import Graph, Node, Operation, RewriteError, is_numbered_through, step_graph
from qdsft.metrics.normal_form.order import LONGEST_TEXT, levels, ordered_steps, reorder_filters


def graph(**labels: str | tuple[str, ...]) -> Graph:
    """Nodes `_1`, `_2`, ...: text is a node of tokens, (name, numbers...) an operation."""
    made: Graph = {}
    for name, label in labels.items():
        node = Node(tokens=tokens(label)) if isinstance(label, str) and label else Node()
        if isinstance(label, tuple):
            operation, *meta = label[0].split("+")
            node.operation = Operation(operation, tuple(meta), tuple(map(int, label[1:])))
        node.refresh_successors()
        made[int(name[1:])] = node
    return made


def test_nodes_come_in_the_order_of_the_edges_then_the_rest() -> None:
    made = step_graph(["a", "b", "x #2", "y #1 #3 #1"])
    assert list(made) == [3, 2, 4, 1]
    assert made[4].successors == {1, 3}
    assert made[3].text == "x @@2@@"


def test_a_number_that_is_no_step_gets_an_empty_node() -> None:
    made = step_graph(["a", "x #5"])
    assert list(made) == [2, 5, 1]
    assert made[5].text == ""
    assert not is_numbered_through(made)
    assert is_numbered_through(step_graph(["a", "x #3"]))
    assert not is_numbered_through(step_graph(["a", "x #0"]))
    assert not is_numbered_through(step_graph(["#" + "9" * 5000]))


def test_an_operation_is_written_with_its_meta_and_arguments() -> None:
    assert Operation("UNION", (), (1, 2)).label == "UNION(@@1@@,@@2@@)"
    assert Operation("BOOLEAN", ("=",), (3,)).label == "BOOLEAN[=](@@3@@)"


def test_filters_are_sorted_by_their_conditions() -> None:
    red_big = graph(_1="balls/NNS", _2=("FILTER", "1", "4"), _3=("FILTER", "2", "5"), _4="big/JJ", _5="red/JJ")
    big_red = graph(_1="balls/NNS", _2=("FILTER", "1", "5"), _3=("FILTER", "2", "4"), _4="big/JJ", _5="red/JJ")
    expected = ["ball", "big", "red", "FILTER(@@1@@,@@3@@)", "FILTER(@@4@@,@@2@@)"]
    assert ordered_steps(red_big) == ordered_steps(big_red) == expected


def test_conditions_are_compared_by_what_they_refer_to() -> None:
    # "in a" and "in z" by the texts, whatever the numbers of a and z.
    for a, z in (("6", "7"), ("7", "6")):
        nouns: dict[str, str | tuple[str, ...]] = {f"_{a}": "a", f"_{z}": "z"}
        conditions: dict[str, str | tuple[str, ...]] = {"_4": f"in/IN @@{z}@@", "_5": f"in/IN @@{a}@@"}
        made = graph(_1="balls/NNS", _2=("FILTER", "1", "4"), _3=("FILTER", "2", "5"), **conditions, **nouns)
        reorder_filters(made)
        assert [made[n].label for n in (2, 3)] == ["FILTER(@@1@@,@@4@@)", "FILTER(@@2@@,@@5@@)"]


@pytest.mark.parametrize(
    "other",
    [
        ("UNION", "2", "1"),  # a second node refers to the inner filter
        ("FILTER", "1", "2"),  # and here as a condition
    ],
)
def test_a_filter_that_others_refer_to_ends_the_chain(other: tuple[str, ...]) -> None:
    made = graph(_1="balls/NNS", _2=("FILTER", "1", "5"), _3=("FILTER", "2", "4"), _4="a/JJ", _5="b/JJ", _6=other)
    reorder_filters(made)
    assert made[3].label == "FILTER(@@2@@,@@4@@)"


def test_a_filter_with_meta_is_in_no_chain() -> None:
    made = graph(_1="balls/NNS", _2=("FILTER+POS_NEAR", "1", "4"), _3=("FILTER", "2", "5"), _4="b/JJ", _5="a/JJ")
    reorder_filters(made)
    assert made[3].label == "FILTER(@@2@@,@@5@@)"


def test_nodes_are_numbered_by_level_and_label_and_equal_ones_merged() -> None:
    made = graph(_1="z", _2="a", _3="c/NN of/IN @@1@@", _4="z", _5="c/NN of/IN @@4@@", _6=("UNION", "3", "5"))
    assert levels(made) == [[1, 2, 4], [3, 5], [6]]
    assert ordered_steps(made) == ["a", "z", "c of @@2@@", "UNION(@@3@@,@@3@@)"]


def test_a_circle_keeps_its_numbers() -> None:
    made = graph(_2="b/NN @@1@@", _1="a/NN @@2@@", _3=("FILTER", "1", "2"))
    assert ordered_steps(made) == ["a @@2@@", "b @@1@@", "FILTER(@@1@@,@@2@@)"]


def test_a_reference_inside_a_word_that_is_no_edge_cannot_be_numbered() -> None:
    with pytest.raises(RewriteError, match="refers to 1"):
        ordered_steps(graph(_1="a", _2="x@@1@@y"))


def test_text_that_doubles_with_every_step_ends() -> None:
    made = {1: Node(tokens=tokens("cubes/NNS"))}
    for number in range(2, 60):
        made[number] = Node(operation=Operation("UNION", (), (number - 1, number - 1)), successors={number - 1})
    with pytest.raises(RewriteError, match=str(LONGEST_TEXT)):
        ordered_steps(made)


def test_a_long_chain_needs_no_deep_recursion() -> None:
    made = {1: Node(tokens=tokens("cubes/NNS"))}
    for number in range(2, 3000):
        made[number] = Node(operation=Operation("AGGREGATE", ("MAX",), (number - 1,)), successors={number - 1})
    assert len(levels(made)) == 2999
