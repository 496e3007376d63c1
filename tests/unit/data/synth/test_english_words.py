"""English words: every relation, set and attribute of the world has them, and each differs from its opposite."""

from __future__ import annotations

from string import Formatter

from qdsft.data.synth import english_words as words
from qdsft.data.synth import world


def fields(text: str) -> list[str]:
    return [name for _, name, _, _ in Formatter().parse(text) if name is not None]


def test_every_name_of_the_world_has_words() -> None:
    assert words.RELATIONS.keys() == world.RELATIONS.keys()
    assert words.SET_RELATIONS.keys() == world.SETS.keys()
    assert words.ATTRIBUTES.keys() == world.ATTRIBUTES.keys()
    assert set(words.NOUNS) == set(world.load_world().kinds.values())


def test_every_phrase_has_one_place_for_its_entity_or_number() -> None:
    for relation in words.RELATIONS.values():
        assert all(fields(text) == [""] for text in (relation.step, *relation.nouns))
        assert relation.step.endswith("?")
    for several in words.SET_RELATIONS.values():
        assert all(fields(text) == [""] for text in (*several.clauses, *several.predicates))
    for attribute in words.ATTRIBUTES.values():
        assert fields(attribute.step) == [""] and attribute.step.endswith("?")
        assert all(fields(text) == ["n"] for text in (*attribute.above, *attribute.below))


def test_opposites_differ() -> None:
    for name, attribute in words.ATTRIBUTES.items():
        assert not set(attribute.above) & set(attribute.below), name
        assert not set(attribute.highest) & set(attribute.lowest), name
        assert attribute.more != attribute.less, name


def test_steps_are_not_shared() -> None:
    steps = [one.step for one in words.RELATIONS.values()] + [one.step for one in words.ATTRIBUTES.values()]
    assert len(set(steps)) == len(steps)
