"""Chains of filters: which filters make one, and what is left of labels and edges once it is sorted."""

from __future__ import annotations

import pytest
from helpers.hand_made import made_graph

from qdsft.metrics.break_official.normal_form.filters import reorder_filters
from qdsft.metrics.break_official.normal_form.graph import RewriteError
from qdsft.metrics.break_official.normal_form.order import LONGEST_TEXT, renumber


def test_filters_are_sorted_by_their_conditions() -> None:
    red_big = made_graph(_1="balls/NNS", _2="FILTER(@@1@@,@@4@@)", _3="FILTER(@@2@@,@@5@@)", _4="big/JJ", _5="a/JJ")
    big_red = made_graph(_1="balls/NNS", _2="FILTER(@@1@@,@@5@@)", _3="FILTER(@@2@@,@@4@@)", _4="big/JJ", _5="a/JJ")
    expected = {1: "a", 2: "ball", 3: "big", 4: "FILTER(@@2@@,@@1@@)", 5: "FILTER(@@4@@,@@3@@)"}
    for graph in (red_big, big_red):
        reorder_filters(graph)
        assert renumber(graph) == expected


def test_conditions_are_compared_by_what_they_refer_to() -> None:
    # "in a" and "in z" by the texts, whatever the numbers of a and z.
    for a, z in (("6", "7"), ("7", "6")):
        others = {f"_{a}": "a", f"_{z}": "z", "_4": f"in/IN @@{z}@@", "_5": f"in/IN @@{a}@@"}
        graph = made_graph(_1="balls/NNS", _2="FILTER(@@1@@,@@4@@)", _3="FILTER(@@2@@,@@5@@)", **others)
        reorder_filters(graph)
        assert [graph[n].label for n in (2, 3)] == ["FILTER(@@3@@,@@4@@)", "FILTER(@@1@@,@@5@@)"]


def test_references_to_a_chain_point_to_its_new_end() -> None:
    graph = made_graph(
        _1="balls/NNS",
        _2="FILTER(@@1@@,@@5@@)",
        _3="FILTER(@@2@@,@@4@@)",
        _4="a/JJ",
        _5="b/JJ",
        _6="color/NN of/IN @@3@@",
        _7="UNION(@@3@@,@@6@@)",
    )
    reorder_filters(graph)
    assert [graph[n].label for n in (2, 3, 6, 7)] == [
        "FILTER(@@3@@,@@5@@)",
        "FILTER(@@1@@,@@4@@)",
        "color of @@2@@",
        "UNION(@@2@@,@@6@@)",
    ]
    assert list(graph[2].users) == [6, 7]
    assert list(graph[3].users) == [2]
    assert set(graph[2].successors) == {3, 5}


@pytest.mark.parametrize("other", ["UNION(@@2@@,@@1@@)", "FILTER(@@1@@,@@2@@)"])
def test_a_filter_that_others_refer_to_ends_the_chain(other: str) -> None:
    filters = {"_2": "FILTER(@@1@@,@@5@@)", "_3": "FILTER(@@2@@,@@4@@)", "_6": other}
    graph = made_graph(_1="balls/NNS", _4="a/JJ", _5="b/JJ", **filters)
    reorder_filters(graph)
    assert {name: graph[int(name[1:])].label for name in filters} == filters


def test_a_filter_with_meta_is_in_no_chain() -> None:
    filters = {"_2": "FILTER[POS_NEAR](@@1@@,@@4@@)", "_3": "FILTER(@@2@@,@@5@@)"}
    graph = made_graph(_1="balls/NNS", _4="b/JJ", _5="a/JJ", **filters)
    reorder_filters(graph)
    assert {name: graph[int(name[1:])].label for name in filters} == filters


def test_equal_arguments_are_replaced_together() -> None:
    # The first argument is replaced wherever the label has it: 3 filters itself afterwards, as in the evaluator.
    graph = made_graph(_1="a", _2="FILTER(@@1@@,@@1@@)", _3="FILTER(@@2@@,@@4@@)", _4="A/JJ")
    reorder_filters(graph)
    assert [graph[n].label for n in (2, 3)] == ["FILTER(@@3@@,@@3@@)", "FILTER(@@1@@,@@4@@)"]


def test_filters_in_a_circle_stay() -> None:
    filters = {"_1": "FILTER(@@2@@,@@3@@)", "_2": "FILTER(@@1@@,@@4@@)"}
    graph = made_graph(_3="b/JJ", _4="a/JJ", **filters)
    reorder_filters(graph)
    assert {name: graph[int(name[1:])].label for name in filters} == filters
    own = made_graph(_1="FILTER(@@1@@,@@2@@)", _2="a/JJ")
    reorder_filters(own)
    assert own[1].label == "FILTER(@@1@@,@@2@@)"


def test_a_chain_whose_texts_have_a_circle_below_them_stays() -> None:
    filters = {"_2": "FILTER(@@1@@,@@5@@)", "_3": "FILTER(@@2@@,@@4@@)"}
    graph = made_graph(_1="x @@1@@ @@4@@", _4="a/JJ", _5="b/JJ", **filters)
    reorder_filters(graph)
    assert {name: graph[int(name[1:])].label for name in filters} == filters


def test_a_condition_without_a_level_cannot_be_compared() -> None:
    graph = made_graph(_1="a", _2="FILTER(@@1@@,@@4@@)", _3="FILTER(@@2@@,@@1@@)", _4="@@4@@")
    with pytest.raises(RewriteError):
        reorder_filters(graph)


def test_text_that_doubles_with_every_step_ends() -> None:
    labels = {f"_{number}": f"UNION(@@{number - 1}@@,@@{number - 1}@@)" for number in range(2, 60)}
    chain = {"_60": "FILTER(@@59@@,@@1@@)", "_61": "FILTER(@@60@@,@@1@@)"}
    graph = made_graph(_1="cubes/NNS", **labels)
    reorder_filters(graph)
    assert len(renumber(graph)) == 59
    with pytest.raises(RewriteError, match=str(LONGEST_TEXT)):
        reorder_filters(made_graph(_1="cubes/NNS", **labels, **chain))
