"""Korean words: nouns, and for every relation, set relation and attribute of the world its phrases.

In a noun phrase `{x:은}` is the entity in question with a particle, see `particles.Word`. A pair has one wording for
each style.
"""

from __future__ import annotations

from typing import NamedTuple

from qdsft.data.synth.particles import attach

Pair = tuple[str, str]


class Noun(NamedTuple):
    """Words of a kind of entity."""

    noun: str
    counter: str
    what: str
    """The question word."""
    which: str
    """The question word as a subject."""


class Relation(NamedTuple):
    """Words of a relation with one answer."""

    nouns: Pair
    """The answer as a noun phrase."""
    same: str
    """The noun of "do two have the same one?"; empty if no question needs it."""


class Clause(NamedTuple):
    """A relative clause: the particle of the entity in question, and the verb."""

    particle: str
    verb: str
    verb_and: str
    verb_or: str


class Adjective(NamedTuple):
    """Forms of an adjective: before a noun, before another condition, and the predicate asked, reported, embedded."""

    modifier: str
    link: str
    ends: tuple[str, str, str]


Adjectives = tuple[Adjective, Adjective]
"""For more and for less."""


class Attribute(NamedTuple):
    """Words of a number."""

    step: str
    tell: str
    casual: str
    noun: str
    unit: str
    subject: str
    """The words before the adjective or verb: "인구가 "."""
    more: str
    """Modifier before a noun: "많은", "늦게 태어난"."""
    less: str
    above: Pair
    """Conditions as modifiers: "{n}보다 많은"."""
    below: Pair
    above_and: Pair
    """`above` before another condition: "{n}보다 많고"."""
    below_and: Pair
    high: str
    """Modifier that fits `noun`: "늦은" for a year."""
    low: str
    more_ends: tuple[str, str, str]
    """The predicate asked, reported and embedded: "많은가요", "많다는", "많은지"."""
    less_ends: tuple[str, str, str]


NOUNS = {
    "country": Noun("나라", "곳", "어디", "어디가"),
    "city": Noun("도시", "곳", "어디", "어디가"),
    "river": Noun("강", "개", "무엇", "무엇이"),
    "person": Noun("사람", "명", "누구", "누가"),
    "company": Noun("회사", "곳", "어디", "어디가"),
    "film": Noun("영화", "편", "무엇", "무엇이"),
    "book": Noun("책", "권", "무엇", "무엇이"),
}

RELATIONS = {
    "capital": Relation(("{x}의 수도", "{x}의 수도인 도시"), ""),
    "country": Relation(("{x:이} 있는 나라", "{x:이} 위치한 나라"), "위치한 나라"),
    "birthplace": Relation(("{x:이} 태어난 도시", "{x}의 출생지"), "출생지"),
    "founder": Relation(("{x}의 창업자", "{x:을} 세운 사람"), "창업자"),
    "base": Relation(("{x}의 본사가 있는 도시", "{x:이} 본사를 둔 도시"), "본사가 있는 도시"),
    "director": Relation(("{x}의 감독", "{x:을} 감독한 사람"), "감독"),
    "producer": Relation(("{x}의 제작사", "{x:을} 제작한 회사"), "제작사"),
    "author": Relation(("{x}의 저자", "{x:을} 쓴 사람"), "저자"),
    "publisher": Relation(("{x}의 출판사", "{x:을} 펴낸 출판사"), "출판사"),
}

SET_RELATIONS = {
    "directed": (Clause("이", "감독한", "감독하고", "감독했거나"), Clause("이", "연출한", "연출하고", "연출했거나")),
    "starring": (Clause("이", "출연한", "출연하고", "출연했거나"), Clause("이", "나온", "나오고", "나왔거나")),
    "produced": (Clause("이", "제작한", "제작하고", "제작했거나"), Clause("이", "만든", "만들고", "만들었거나")),
    "written": (Clause("이", "쓴", "쓰고", "썼거나"), Clause("이", "집필한", "집필하고", "집필했거나")),
    "issued": (Clause("이", "출판한", "출판하고", "출판했거나"), Clause("이", "펴낸", "펴내고", "펴냈거나")),
    "founded_by": (Clause("이", "세운", "세우고", "세웠거나"), Clause("이", "창업한", "창업하고", "창업했거나")),
    "based_in": (
        Clause("에", "본사를 둔", "본사를 두고", "본사를 두었거나"),
        Clause("에", "본사가 있는", "본사가 있고", "본사가 있거나"),
    ),
    "born_in": (Clause("에서", "태어난", "태어나", "태어났거나"), Clause("에서", "출생한", "출생하고", "출생했거나")),
    "cities_in": (Clause("에", "있는", "있고", "있거나"), Clause("에", "속한", "속하고", "속하거나")),
    "rivers_in": (Clause("에", "있는", "있고", "있거나"), Clause("을", "흐르는", "흐르고", "흐르거나")),
    "cast_of": (Clause("에", "출연한", "출연하고", "출연했거나"), Clause("에", "나온", "나오고", "나왔거나")),
}
"""Set relation -> its clause in each style."""


def _quantity(noun: str, unit: str, adjectives: Adjectives) -> Attribute:
    """Words of a number that an entity has."""
    more, less = adjectives
    subject = attach(noun, "이") + " "
    topic = attach(noun, "은")
    return Attribute(
        step="{x}의 " + f"{topic} 몇 {unit}인가요?",
        tell="{x}의 " + f"{subject}몇 {unit}인지 알려 주세요.",
        casual="{x}의 " + f"{topic} 얼마나 되나요?",
        noun=noun,
        unit=unit,
        subject=subject,
        more=more.modifier,
        less=less.modifier,
        above=(f"{subject}{{n}}보다 {more.modifier}", subject + "{n:을} 넘는"),
        below=(f"{subject}{{n}}보다 {less.modifier}", subject + "{n}에 못 미치는"),
        above_and=(f"{subject}{{n}}보다 {more.link}", subject + "{n:을} 넘고"),
        below_and=(f"{subject}{{n}}보다 {less.link}", subject + "{n}에 못 미치고"),
        high=more.modifier,
        low=less.modifier,
        more_ends=more.ends,
        less_ends=less.ends,
    )


def _year(noun: str, verb: str, modifier: str) -> Attribute:
    """Words of the year in which something happened; `verb` is the past stem 태어났, `modifier` 태어난."""
    return Attribute(
        step="{x:은} 몇 년에 " + f"{verb}나요?",
        tell="{x:이} 몇 년에 " + f"{verb}는지 알려 주세요.",
        casual="{x:이} " + f"{modifier} 해는 언제인가요?",
        noun=noun,
        unit="년",
        subject="",
        more=f"늦게 {modifier}",
        less=f"일찍 {modifier}",
        above=(f"{{n}}보다 늦게 {modifier}", "{n:이} 지난 뒤에 " + modifier),
        below=(f"{{n}}보다 일찍 {modifier}", "{n:이} 되기 전에 " + modifier),
        above_and=(f"{{n}}보다 늦게 {verb}고", "{n:이} 지난 뒤에 " + f"{verb}고"),
        below_and=(f"{{n}}보다 일찍 {verb}고", "{n:이} 되기 전에 " + f"{verb}고"),
        high="늦은",
        low="이른",
        more_ends=(f"늦게 {verb}나요", f"늦게 {verb}다는", f"늦게 {verb}는지"),
        less_ends=(f"일찍 {verb}나요", f"일찍 {verb}다는", f"일찍 {verb}는지"),
    )


_MANY = (
    Adjective("많은", "많고", ("많은가요", "많다는", "많은지")),
    Adjective("적은", "적고", ("적은가요", "적다는", "적은지")),
)
_LONG = (
    Adjective("긴", "길고", ("긴가요", "길다는", "긴지")),
    Adjective("짧은", "짧고", ("짧은가요", "짧다는", "짧은지")),
)
_WIDE = (
    Adjective("넓은", "넓고", ("넓은가요", "넓다는", "넓은지")),
    Adjective("좁은", "좁고", ("좁은가요", "좁다는", "좁은지")),
)

ATTRIBUTES = {
    "area": _quantity("면적", "제곱킬로미터", _WIDE),
    "population": _quantity("인구", "명", _MANY),
    "length": _quantity("길이", "킬로미터", _LONG),
    "born": _year("출생 연도", "태어났", "태어난"),
    "founded": _year("설립 연도", "설립되었", "설립된"),
    "staff": _quantity("직원 수", "명", _MANY),
    "released": _year("개봉 연도", "개봉했", "개봉한"),
    "minutes": _quantity("상영 시간", "분", _LONG),
    "published": _year("출간 연도", "출간되었", "출간된"),
    "pages": _quantity("쪽수", "쪽", _MANY),
}
