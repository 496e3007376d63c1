"""Which operator a step is, and what its arguments are."""

from __future__ import annotations

import pytest

from qdsft.metrics.break_official.normal_form.operators import (
    arguments_of,
    comparator_of,
    operator_of,
    references,
    relation_of,
    value_of,
)


@pytest.mark.parametrize(
    ("step", "operator", "arguments"),
    [
        ("cubes", "SELECT", []),
        ("", "SELECT", []),
        ("number of #1", "AGGREGATE", ["COUNT", "#1"]),
        ("highest of #1", "AGGREGATE", ["MAX", "#1"]),
        # Value, group and key: always one argument more than are built.
        ("number of #1 for each #2", "GROUP", []),
        ("#1 where #2 is at least 3", "COMPARATIVE", ["#1", "#2", ">=", "3"]),
        ("#1 where #2 is higher than #3", "COMPARATIVE", ["#1", "#2", ">", "#3"]),
        ("#1 where size of #2 is red", "COMPARATIVE", ["#1", "#2", "=", "red"]),
        ("#1 of #2 where #3 is red", "COMPARATIVE", ["#1", "#3", "=", "red"]),
        ("#1 where #2 has not any red ball", "COMPARATIVE", ["#1", "#2", "FILTER", "has not any red ball"]),
        ("#1 where #2 highest", "SUPERLATIVE", ["MAX", "#1", "#2"]),
        ("#1 where #2 is highest", "COMPARATIVE", ["#1", "#2", "=", "highest"]),
        ("#1 , #2", "UNION", ["#1", "#2"]),
        ("#1 and #2 or #3", "UNION", ["#1", "#2", "#3"]),
        ("#1 on #2", "UNION", ["#1", "#2"]),
        ("both #1 and #2", "UNION", ["#1", "#2"]),
        ("#1 in both #2 and #3", "INTERSECTION", ["#1 ", "#2", "#3"]),
        ("#1 besides #2", "DISCARD", ["#1", "#2"]),
        ("#1 not in #2", "DISCARD", ["#1", "#2"]),
        ("#1 besides balls", "DISCARD", ["#1", " balls"]),
        ("balls besides #1", "DISCARD", ["balls ", "#1"]),
        ("#1 sorted by size", "SORT", ["#1", " size"]),
        ("#1 sorted by #2", "SORT", []),
        ("#1 , #2 sorted by size", "SORT", []),
        ("is #1 behind #2", "BOOLEAN", ["POS_BEHIND_OF", "#1", "#2"]),
        ("is #1 the same as #2", "BOOLEAN", ["=", "#1", "#2"]),
        ("if #1 are gray", "BOOLEAN", ["=", "#1", "gray"]),
        ("if #1 are not gray", "BOOLEAN", ["!=", "#1", "gray"]),
        # Without its first word this compares nothing.
        ("are #1 gray", "BOOLEAN", []),
        ("are #2 all different", "BOOLEAN", []),
        ("is #1 more than #2 and #3", "BOOLEAN", []),
        ("are there now any #1", "BOOLEAN", ["EXIST", "#1"]),
        ("are there any #1 there", "BOOLEAN", []),
        ("if #1 have the same", "BOOLEAN", ["SAME", "#1"]),
        ("if red #1 have the same", "BOOLEAN", []),
        ("if #1 have any", "BOOLEAN", []),
        ("which is lower of #1 , #2", "COMPARISON", ["MIN", "#1", "#2"]),
        ("which is total of #1 , #2", "COMPARISON", []),
        ("which #1 now", "PROJECT", []),
        ("the sum of #1 and #2", "ARITHMETIC", []),
        ("difference of #1 , #2", "ARITHMETIC", []),
        ("color of #1", "PROJECT", []),
        ("#1 that are red", "FILTER", ["#1", " that are red"]),
        ("#1 that are near #2", "FILTER", ["POS_NEAR", "#1", "#2"]),
        ("#1 that like #2", "NONE", []),
        ("if", "SELECT", []),
    ],
)
def test_operator_and_arguments(step: str, operator: str, arguments: list[str]) -> None:
    assert operator_of(step) == operator
    assert arguments_of(operator, step) == arguments


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("number of highest", ["COUNT"]),
        ("plastic", ["MAX"]),  # it has "last" in it
        ("highest or lowest", ["MAX"]),
        ("fewer", ["MIN"]),
        ("total", ["SUM"]),
        ("mean of", ["AVG"]),
        ("mean", []),
        ("red", []),
    ],
)
def test_the_first_value_that_fits(text: str, value: list[str]) -> None:
    assert value_of(text) == value


@pytest.mark.parametrize(
    ("step", "comparator"),
    [
        ("is at least more", ">="),
        ("is at most", "=<"),
        ("is larger", ">"),
        ("is smaller", "<"),
        ("is not red", "!="),
        ("is red or not", "="),
        ("is red", "="),
        ("is any red", "FILTER"),
        ("contain red", "CONTAINS"),
        ("red", "FILTER"),
    ],
)
def test_comparators(step: str, comparator: str) -> None:
    assert comparator_of(step) == comparator


@pytest.mark.parametrize(
    ("step", "relation"),
    [
        ("#1 left of #2", "POS_LEFT_OF"),
        ("left of #2", ""),
        ("#1 in the middle of #2", "POS_BETWEEN"),
        ("#1 at the rear of #2", "POS_BEHIND_OF"),
        ("#1 in the very front of #2", "POS_IN_FRONT_OF"),
        ("#1 on the front seen in #2", "POS_IN_FRONT_OF"),
        ("#1 in the frontal #2", ""),
        ("#1 touching #2", "POS_TOUCHING"),
        ("#1 obscured by #2", "POS_COVERS"),
        ("#1 next to #2", "POS_NEAR"),
        ("#1 red #2", ""),
    ],
)
def test_positional_relations(step: str, relation: str) -> None:
    assert relation_of(step) == relation


@pytest.mark.parametrize(
    ("step", "found"),
    [
        ("#1 , #12 and #1", ["#1", "#12", "#1"]),
        ("#1, #2", ["#1", "#2"]),
        ("# of #1 in c#", ["#1"]),
        ("#01", ["#1"]),
        ("cubes", []),
    ],
)
def test_references(step: str, found: list[str]) -> None:
    assert references(step) == found


@pytest.mark.parametrize("step", ["#a", "#1 #x", "#1s", "#1#-"])
def test_texts_that_are_not_references(step: str) -> None:
    with pytest.raises(ValueError):
        operator_of(step)


@pytest.mark.parametrize(
    ("operator", "step"),
    [
        ("INTERSECTION", "both big #1 and #2"),  # none of "of both", "in both", "by both"
        ("INTERSECTION", "#1 of both #2 of both #3 and #4"),
        ("DISCARD", "#1 not in balls"),
        ("COMPARATIVE", "red #1 where many #2 of #3 are red"),  # three references, and none behind "where"
        ("BOOLEAN", "is red equal to #"),
    ],
)
def test_arguments_that_cannot_be_taken_apart(operator: str, step: str) -> None:
    with pytest.raises((ValueError, IndexError)):
        arguments_of(operator, step)
