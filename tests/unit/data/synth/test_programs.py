"""The names of the operations in a program."""

from __future__ import annotations

import pytest

from qdsft.data.synth.programs import (
    Both,
    Compare,
    Count,
    Exceeds,
    Filter,
    Follow,
    Members,
    MostMembers,
    Named,
    Node,
    PerGroup,
    Superlative,
    Value,
    operations,
)

NAMED = Named("a")
SET = Members("r", NAMED)


@pytest.mark.parametrize(
    ("program", "names"),
    [
        (Follow("r", NAMED), []),
        (Value("v", Follow("r", NAMED)), ["chain"]),
        (Count(Filter(Filter(SET, "v", True, 1), "w", False, 2)), ["filter", "count"]),
        (Both(SET, Members("r", Follow("q", NAMED))), ["chain", "intersection"]),
        (Follow("r", Superlative(SET, "v", True)), ["superlative", "chain"]),
        (Compare(NAMED, NAMED, "v", True), ["comparison"]),
        (Exceeds(Follow("r", NAMED), NAMED, "v", True), ["chain", "boolean"]),
        (PerGroup(SET, "r"), ["group"]),
        (MostMembers(SET, "r"), ["group", "superlative"]),
    ],
)
def test_operations(program: Node, names: list[str]) -> None:
    assert operations(program) == names
