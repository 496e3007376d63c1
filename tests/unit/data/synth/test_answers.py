"""Programs evaluated over a small world whose answers can be checked by hand."""

from __future__ import annotations

from typing import Any

import pytest

from qdsft.data.synth.answers import entities, entity, evaluate, kind_of
from qdsft.data.synth.programs import (
    Both,
    Compare,
    Count,
    Difference,
    Either,
    Exceeds,
    Filter,
    Follow,
    Members,
    MostMembers,
    Named,
    Node,
    PerGroup,
    Same,
    Superlative,
    Value,
)
from qdsft.data.synth.world import load_world

WORLD = load_world()
HARBOR, BRIDGE, THUNDER = Named("Harbor"), Named("Bridge"), Named("Thunder")
HOLM = Members("directed", Follow("director", HARBOR))
"""The films of Dara Holm, found from one of them: Harbor 142, Bridge 120, Thunder 157 minutes."""
CAST = Members("cast_of", BRIDGE)


@pytest.mark.parametrize(
    ("program", "answer"),
    [
        (Follow("birthplace", Follow("director", HARBOR)), "Tamsel"),
        (Value("minutes", HARBOR), 142),
        (HOLM, ("Harbor", "Bridge", "Thunder")),
        (Filter(HOLM, "minutes", True, 130), ("Harbor", "Thunder")),
        (Filter(HOLM, "minutes", False, 120), ()),
        (Both(CAST, Members("cast_of", HARBOR)), ("Leon Marsh",)),
        (Either(CAST, Members("cast_of", HARBOR)), ("Suri Pike", "Milo Voss", "Leon Marsh", "Ivo Lund", "Hugo Pike")),
        (Superlative(HOLM, "minutes", True), "Thunder"),
        (Superlative(HOLM, "minutes", False), "Bridge"),
        (Count(Filter(HOLM, "minutes", True, 130)), 2),
        (Compare(HARBOR, BRIDGE, "minutes", True), "Harbor"),
        (Compare(HARBOR, BRIDGE, "minutes", False), "Bridge"),
        (Difference(BRIDGE, HARBOR, "minutes"), 22),
        (Exceeds(BRIDGE, HARBOR, "minutes", True), False),
        (Exceeds(BRIDGE, HARBOR, "minutes", False), True),
        (Same(HARBOR, BRIDGE, "director"), True),
        (Same(HARBOR, BRIDGE, "producer"), False),
        (PerGroup(CAST, "directed"), {"Suri Pike": 0, "Milo Voss": 3, "Leon Marsh": 0}),
        (MostMembers(CAST, "directed"), "Milo Voss"),
    ],
)
def test_the_answer_of_a_program(program: Node, answer: Any) -> None:
    assert evaluate(program, WORLD) == answer


def test_the_kind_of_what_a_program_finds() -> None:
    assert (
        kind_of(HARBOR, WORLD) == kind_of(HOLM, WORLD) == kind_of(Superlative(HOLM, "minutes", True), WORLD) == "film"
    )
    assert kind_of(CAST, WORLD) == kind_of(MostMembers(CAST, "directed"), WORLD) == "person"
    assert kind_of(Compare(HARBOR, BRIDGE, "minutes", True), WORLD) == "film"


def test_names_that_are_not_entities_are_refused() -> None:
    for refuse in (kind_of, entity, entities):
        with pytest.raises(ValueError, match="Count"):
            refuse(Count(HOLM), WORLD)
