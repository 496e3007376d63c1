"""Recall and all-found of merged lists, and their names."""

from __future__ import annotations

import pytest

from qdsft.metrics.catalog import BY_KEY, of_kind
from qdsft.metrics.retrieval_scores import KEYS, QUERIES, key, retrieval_scores, round_robin


@pytest.mark.parametrize(
    ("lists", "merged"),
    [
        ([[1, 2, 3], [4, 5], [6]], [1, 4, 6, 2, 5, 3]),
        ([[1, 2], [1, 3], [2]], [1, 2, 3]),
        ([[], [7]], [7]),
        ([], []),
    ],
)
def test_lists_are_merged_in_turn(lists: list[list[int]], merged: list[int]) -> None:
    assert round_robin(lists) == merged


def test_scores_of_a_row() -> None:
    places = list(range(30))
    found = dict.fromkeys(QUERIES, places) | {"steps": [], "both": [5, 19, *range(100, 120)]}
    scores = retrieval_scores(found, {5, 19})
    assert tuple(scores) == KEYS
    assert (scores["retrieval_recall"], scores["retrieval_all_found"]) == (1.0, 1.0)
    assert (scores["retrieval_recall_question"], scores["retrieval_all_found_question"]) == (0.5, 0.0)
    assert (scores["retrieval_recall_20_gold"], scores["retrieval_all_found_20_gold"]) == (1.0, 1.0)
    assert scores["retrieval_recall_20_steps"] == scores["retrieval_all_found_steps"] == 0.0


def test_the_list_of_metrics_has_them() -> None:
    metrics = of_kind("retrieval")
    assert tuple(metric.key for metric in metrics) == KEYS and len(set(KEYS)) == 16
    assert BY_KEY["retrieval_all_found"].name == "all found@10, question and predicted steps"
    for metric in metrics:
        assert metric.compared_to is None or BY_KEY[metric.compared_to].fixed
    assert BY_KEY[key("recall", 20)].compared_to == key("recall", 20, "question") == "retrieval_recall_20_question"
    assert [name for name in QUERIES if BY_KEY[key("recall", queries=name)].fixed] == ["question", "gold"]
