"""The patterns of Korean steps, and the operations that answer them."""

from __future__ import annotations

from collections.abc import Iterator

from qdsft.data.synth.step_operations import Rule, StepOperations, bind, kept

NUMBER = r"(?P<n>[\d,]+만?)"
X, Y, M, N, GROUPS = (rf"(?P<{name}>#\d+)" for name in ("x", "y", "m", "n", "groups"))
SUBJECT, TOPIC, WITH = "(?:이|가)", "(?:은|는)", "(?:과|와)"
WHAT = f"{TOPIC} (?:무엇|누구|어디)인가요\\?"
THING = "(?:영화|책|도시|회사|사람|강|나라)"
COUNTER = "(?:편|권|곳|명|개)"
_PAST = {"born": "태어났", "founded": "설립되었", "released": "개봉했", "published": "출간되었"}
_ATTRIBUTES = [
    ("area", "제곱킬로미터", "면적", "면적이 {}넓은", "면적이 {}좁은"),
    ("population", "명", "인구", "인구가 {}많은", "인구가 {}적은"),
    ("length", "킬로미터", "길이", "길이가 {}긴", "길이가 {}짧은"),
    ("staff", "명", "직원 수", "직원 수가 {}많은", "직원 수가 {}적은"),
    ("minutes", "분", "상영 시간", "상영 시간이 {}긴", "상영 시간이 {}짧은"),
    ("pages", "쪽", "쪽수", "쪽수가 {}많은", "쪽수가 {}적은"),
    ("born", "년", "출생 연도가 {}(?:늦은|이른)", "{}늦게 태어난", "{}일찍 태어난"),
    ("founded", "년", "설립 연도가 {}(?:늦은|이른)", "{}늦게 설립된", "{}일찍 설립된"),
    ("released", "년", "개봉 연도가 {}(?:늦은|이른)", "{}늦게 개봉한", "{}일찍 개봉한"),
    ("published", "년", "출간 연도가 {}(?:늦은|이른)", "{}늦게 출간된", "{}일찍 출간된"),
]
"""Attribute, unit, its name, and the words for more and less of it."""


def korean_rules() -> list[Rule]:
    """Return all rules, in the order in which they are tried."""
    numbers = [rule for attribute in _ATTRIBUTES for rule in _numbers(*attribute)]
    return [*_groups(), *numbers, *_members(), *_relations()]


def _groups() -> Iterator[Rule]:
    """Yield the rules of steps about groups and about two answers."""
    rules: list[Rule] = [
        (rf"{X}, {Y} 양쪽에 모두 있는 {THING}{WHAT}", StepOperations.both),
        (rf"{X}, {Y} 가운데 한쪽에라도 있는 {THING}{WHAT}", StepOperations.either),
        (rf"{GROUPS}에 속한 {THING}{TOPIC} {X}마다 몇 {COUNTER}인가요\?", StepOperations.counts),
        (rf"{X}에 속한 {THING}{TOPIC} 모두 몇 {COUNTER}인가요\?", StepOperations.count),
        (rf"{X} 중에서 {Y}의 수가 가장 많은 {THING}{WHAT}", bind(StepOperations.extreme, True)),
        (rf"{X}{WITH} {Y}의 차이는 얼마인가요\?", StepOperations.difference),
        (rf"{X}{SUBJECT} {Y}보다 큰가요\?", bind(StepOperations.exceeds, True)),
        (rf"{X}{SUBJECT} {Y}보다 작은가요\?", bind(StepOperations.exceeds, False)),
        (rf"{X}{WITH} {Y}{TOPIC} 같은가요\?", StepOperations.same),
    ]
    yield from rules


def _numbers(attribute: str, unit: str, asked: str, more: str, less: str) -> Iterator[Rule]:
    """Yield the rules of one number: asked for, as a condition, compared, and in superlatives."""
    pair = rf"(?P<x>.+)\({M}\){WITH} (?P<y>.+)\({N}\) 가운데"
    yield from [
        (rf"{X} 중에서 {more.format(rf'{NUMBER} ?{unit}보다 ')} {THING}{WHAT}", kept(attribute, True)),
        (rf"{X} 중에서 {less.format(rf'{NUMBER} ?{unit}보다 ')} {THING}{WHAT}", kept(attribute, False)),
        (rf"{pair} {more.format('더 ')} {THING}{WHAT}", bind(StepOperations.larger, True)),
        (rf"{pair} {less.format('더 ')} {THING}{WHAT}", bind(StepOperations.larger, False)),
    ]
    if unit == "년":
        noun = asked.split("가 ")[0]
        most, least, said = f"{noun}가 가장 늦은", f"{noun}가 가장 이른", _PAST[attribute]
        year = rf"{TOPIC} 몇 년에 {said}나요\?"
        yield from [
            (rf"{X} 각각{year}", bind(StepOperations.values, attribute)),
            (rf"(?P<x>.+){year}", bind(StepOperations.value, attribute)),
        ]
    else:
        most, least = more.format("가장 "), less.format("가장 ")
        number_asked = rf"의 {asked}{TOPIC} 몇 {unit}인가요\?"
        yield from [
            (rf"{X} 각각{number_asked}", bind(StepOperations.values, attribute)),
            (rf"(?P<x>.+){number_asked}", bind(StepOperations.value, attribute)),
        ]
    yield from [
        (rf"{X} 중에서 {Y}의 {most} {THING}{WHAT}", bind(StepOperations.extreme, True)),
        (rf"{X} 중에서 {Y}의 {least} {THING}{WHAT}", bind(StepOperations.extreme, False)),
    ]


def _members() -> Iterator[Rule]:
    """Yield the rules of groups that belong to an entity."""
    for relation, kind, said in [
        ("director", "film", rf"{SUBJECT} 감독한 영화"),
        ("producer", "film", rf"{SUBJECT} 제작한 영화"),
        ("cast", "film", rf"{SUBJECT} 출연한 영화"),
        ("cast", "person", "에 출연한 사람"),
        ("author", "book", rf"{SUBJECT} 쓴 책"),
        ("publisher", "book", rf"{SUBJECT} 출판한 책"),
        ("founder", "company", rf"{SUBJECT} 세운 회사"),
        ("base", "company", "에 본사를 둔 회사"),
        ("birthplace", "person", "에서 태어난 사람"),
        ("country", "city", "에 있는 도시"),
        ("country", "river", "에 있는 강"),
    ]:
        yield rf"{X} 각각{said}{WHAT}", bind(StepOperations.members_of_each, relation, kind)
        yield rf"(?P<x>.+?){said}{WHAT}", bind(StepOperations.members, relation, kind)


def _relations() -> Iterator[Rule]:
    """Yield the rules of one entity that belongs to another."""
    for relation, said in [
        ("capital", "의 수도"),
        ("country", rf"{SUBJECT} 있는 나라"),
        ("birthplace", rf"{SUBJECT} 태어난 도시"),
        ("founder", "의 창업자"),
        ("base", "의 본사가 있는 도시"),
        ("director", "의 감독"),
        ("producer", "의 제작사"),
        ("author", "의 저자"),
        ("publisher", "의 출판사"),
    ]:
        yield rf"(?P<x>.+?){said}{WHAT}", bind(StepOperations.follow, relation)
