"""Korean words: every relation, set and attribute of the world has them, and particles agree."""

from __future__ import annotations

import re

import pytest

from qdsft.data.synth import korean_words as words
from qdsft.data.synth import world
from qdsft.data.synth.particles import Word, attach


def test_every_name_of_the_world_has_words() -> None:
    assert words.RELATIONS.keys() == world.RELATIONS.keys()
    assert words.SET_RELATIONS.keys() == world.SETS.keys()
    assert words.ATTRIBUTES.keys() == world.ATTRIBUTES.keys()
    assert set(words.NOUNS) == set(world.load_world().kinds.values())


@pytest.mark.parametrize("name", ["벨마르", "켈비", "노르델", "겨울", "탐셀", "등불", "숲"])
def test_every_form_renders_with_the_particle_of_the_name(name: str) -> None:
    particles = {particle: attach(name, particle) for particle in ("은", "이", "을")}
    texts = [text for relation in words.RELATIONS.values() for text in relation.nouns]
    texts += [text for one in words.ATTRIBUTES.values() for text in (one.step, one.tell, one.casual)]
    for text in texts:
        asked = re.search(r"\{x(?::(.))?\}", text)
        assert asked, text
        rendered = text.format(x=Word(name))
        assert (particles[asked[1]] if asked[1] else name) in rendered and "{" not in rendered


@pytest.mark.parametrize("number", ["12만 명", "1990년", "120분", "350쪽", "700킬로미터"])
def test_every_condition_renders(number: str) -> None:
    for name, one in words.ATTRIBUTES.items():
        conditions = [*one.above, *one.below, *one.above_and, *one.below_and]
        rendered = [text.format(n=Word(number)) for text in conditions]
        assert len(set(rendered)) == len(rendered), name
        assert all(number in text for text in rendered), name


def test_nouns_of_numbers_have_their_subject_particle() -> None:
    assert words.ATTRIBUTES["area"].subject == "면적이 "
    assert words.ATTRIBUTES["population"].subject == "인구가 "
    assert words.ATTRIBUTES["born"].subject == ""
    for one in words.ATTRIBUTES.values():
        assert one.subject in ("", attach(one.noun, "이") + " ")


def test_opposites_differ() -> None:
    for name, one in words.ATTRIBUTES.items():
        assert one.more != one.less and one.high != one.low, name
        assert not set(one.more_ends) & set(one.less_ends), name
    for name, (first, second) in words.SET_RELATIONS.items():
        assert first != second, name
