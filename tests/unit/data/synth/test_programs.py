"""The names of the operations in a program."""

from __future__ import annotations

import pytest

from qdsft.data.synth import programs as p
from qdsft.data.synth.programs import Node, operations

NAMED = p.Named("a")
SET = p.Members("r", NAMED)


@pytest.mark.parametrize(
    ("program", "names"),
    [
        (p.Follow("r", NAMED), []),
        (p.Value("v", p.Follow("r", NAMED)), ["chain"]),
        (p.Count(p.Filter(p.Filter(SET, "v", True, 1), "w", False, 2)), ["filter", "count"]),
        (p.Both(SET, p.Members("r", p.Follow("q", NAMED))), ["chain", "intersection"]),
        (p.Follow("r", p.Superlative(SET, "v", True)), ["superlative", "chain"]),
        (p.Compare(NAMED, NAMED, "v", True), ["comparison"]),
        (p.Exceeds(p.Follow("r", NAMED), NAMED, "v", True), ["chain", "boolean"]),
        (p.PerGroup(SET, "r"), ["group"]),
        (p.MostMembers(SET, "r"), ["group", "superlative"]),
    ],
)
def test_operations(program: Node, names: list[str]) -> None:
    assert operations(program) == names
