"""Programs evaluated over a small world whose answers can be checked by hand."""

from __future__ import annotations

from typing import Any

import pytest

from qdsft.data.synth import programs as p
from qdsft.data.synth.answers import entities, entity, evaluate, kind_of
from qdsft.data.synth.programs import Node
from qdsft.data.synth.world import load_world

WORLD = load_world()
HARBOR, BRIDGE, THUNDER = p.Named("Harbor"), p.Named("Bridge"), p.Named("Thunder")
HOLM = p.Members("directed", p.Follow("director", HARBOR))
"""The films of Dara Holm, found from one of them: Harbor 142, Bridge 120, Thunder 157 minutes."""
CAST = p.Members("cast_of", BRIDGE)


@pytest.mark.parametrize(
    ("program", "answer"),
    [
        (p.Follow("birthplace", p.Follow("director", HARBOR)), "Tamsel"),
        (p.Value("minutes", HARBOR), 142),
        (HOLM, ("Harbor", "Bridge", "Thunder")),
        (p.Filter(HOLM, "minutes", True, 130), ("Harbor", "Thunder")),
        (p.Filter(HOLM, "minutes", False, 120), ()),
        (p.Both(CAST, p.Members("cast_of", HARBOR)), ("Leon Marsh",)),
        (
            p.Either(CAST, p.Members("cast_of", HARBOR)),
            ("Suri Pike", "Milo Voss", "Leon Marsh", "Ivo Lund", "Hugo Pike"),
        ),
        (p.Superlative(HOLM, "minutes", True), "Thunder"),
        (p.Superlative(HOLM, "minutes", False), "Bridge"),
        (p.Count(p.Filter(HOLM, "minutes", True, 130)), 2),
        (p.Compare(HARBOR, BRIDGE, "minutes", True), "Harbor"),
        (p.Compare(HARBOR, BRIDGE, "minutes", False), "Bridge"),
        (p.Difference(BRIDGE, HARBOR, "minutes"), 22),
        (p.Exceeds(BRIDGE, HARBOR, "minutes", True), False),
        (p.Exceeds(BRIDGE, HARBOR, "minutes", False), True),
        (p.Same(HARBOR, BRIDGE, "director"), True),
        (p.Same(HARBOR, BRIDGE, "producer"), False),
        (p.PerGroup(CAST, "directed"), {"Suri Pike": 0, "Milo Voss": 3, "Leon Marsh": 0}),
        (p.MostMembers(CAST, "directed"), "Milo Voss"),
    ],
)
def test_the_answer_of_a_program(program: Node, answer: Any) -> None:
    assert evaluate(program, WORLD) == answer


def test_the_kind_of_what_a_program_finds() -> None:
    assert (
        kind_of(HARBOR, WORLD) == kind_of(HOLM, WORLD) == kind_of(p.Superlative(HOLM, "minutes", True), WORLD) == "film"
    )
    assert kind_of(CAST, WORLD) == kind_of(p.MostMembers(CAST, "directed"), WORLD) == "person"
    assert kind_of(p.Compare(HARBOR, BRIDGE, "minutes", True), WORLD) == "film"


def test_names_that_are_not_entities_are_refused() -> None:
    for refuse in (kind_of, entity, entities):
        with pytest.raises(ValueError, match="Count"):
            refuse(p.Count(HOLM), WORLD)
