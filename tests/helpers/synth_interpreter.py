"""Answer the steps of synthetic rows one after another, only from their sentences and the facts.

It shares nothing with the generator but the tables of the world: no programs, no words, no particles. What a
sentence means stands here a second time, as patterns.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from qdsft.data.synth.world import World, load_world

Handler = Callable[..., Any]
Rule = tuple[str, Handler]


class CannotAnswer(Exception):
    """No pattern matches a step, or its subject does not have what the step asks for."""


class Interpreter:
    """Interpreter of one language. All entity names are in that language."""

    def __init__(self, language: str) -> None:
        world = load_world()
        name = (lambda entity: world.korean[entity]) if language == "ko" else (lambda entity: entity)
        self._kinds = {name(entity): kind for entity, kind in world.kinds.items()}
        self._follow = {
            relation: {name(one): name(other) for one, other in pairs.items()}
            for relation, pairs in world.follow.items()
        }
        self._values = {
            attribute: {name(one): number for one, number in pairs.items()} for attribute, pairs in world.values.items()
        }
        self._members = _all_members(world, name)
        rules = _KOREAN if language == "ko" else _ENGLISH
        self._rules = [(re.compile(pattern), handler) for pattern, handler in rules]
        self._answers: list[Any] = []

    def answer(self, steps: Sequence[str]) -> Any:
        """Return the answer of the last step. Raises CannotAnswer."""
        self._answers = []
        for step in steps:
            self._answers.append(self._step(step))
        return self._answers[-1]

    def _step(self, step: str) -> Any:
        for pattern, handler in self._rules:
            if found := pattern.fullmatch(step):
                try:
                    return handler(self, **found.groupdict())
                except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
                    raise CannotAnswer(f"{step}: {error!r}") from error
        raise CannotAnswer(f"{step}: not understood")

    def _get(self, text: str) -> Any:
        """Return the answer of step n for `#n`, or the entity with this name."""
        if text.startswith("#"):
            number = int(text[1:])
            if number < 1:
                raise IndexError(text)
            return self._answers[number - 1]
        text = text.strip("'")
        if text not in self._kinds:
            raise KeyError(text)
        return text

    def follow(self, relation: str, x: str) -> Any:
        return self._follow[relation][self._get(x)]

    def value(self, attribute: str, x: str) -> Any:
        return self._values[attribute][self._get(x)]

    def values(self, attribute: str, x: str) -> Any:
        return {name: self._values[attribute][name] for name in _set(self._get(x))}

    def members(self, relation: str, kind: str, x: str) -> Any:
        return self._members[relation, kind].get(self._subject(relation, kind, x), ())

    def _subject(self, relation: str, kind: str, x: str) -> str:
        name = self._get(x)
        if self._kinds[name] not in {self._kinds[one] for one in self._members[relation, kind]}:
            raise KeyError(name)
        return str(name)

    def members_of_each(self, relation: str, kind: str, x: str) -> Any:
        return {name: self._members[relation, kind].get(name, ()) for name in _set(self._get(x))}

    def counts(self, groups: str, x: str) -> Any:
        found = self._get(groups)
        return {name: len(_set(found[name])) for name in _set(self._get(x))}

    def count(self, x: str) -> Any:
        return len(_set(self._get(x)))

    def keep(self, attribute: str, above: bool, bound: int, x: str) -> Any:
        values = self._values[attribute]
        return tuple(name for name in _set(self._get(x)) if (values[name] > bound if above else values[name] < bound))

    def both(self, x: str, y: str) -> Any:
        return tuple(name for name in _set(self._get(x)) if name in _set(self._get(y)))

    def either(self, x: str, y: str) -> Any:
        return tuple(dict.fromkeys(_set(self._get(x)) + _set(self._get(y))))

    def extreme(self, highest: bool, x: str, y: str) -> Any:
        group, numbers = _set(self._get(x)), self._get(y)
        if not isinstance(numbers, dict) or set(numbers) != set(group):
            raise ValueError("the numbers are not those of the group")
        return (max if highest else min)(group, key=lambda name: numbers[name])

    def larger(self, more: bool, x: str, y: str, m: str, n: str) -> Any:
        pair = [(_number(self._get(m)), self._get(x)), (_number(self._get(n)), self._get(y))]
        return (max if more else min)(pair)[1]

    def difference(self, x: str, y: str) -> Any:
        return abs(_number(self._get(x)) - _number(self._get(y)))

    def exceeds(self, more: bool, x: str, y: str) -> Any:
        first, second = _number(self._get(x)), _number(self._get(y))
        return first > second if more else first < second

    def same(self, x: str, y: str) -> Any:
        first, second = self._get(x), self._get(y)
        if self._kinds[first] != self._kinds[second]:
            raise ValueError("of different kinds")
        return first == second


def _all_members(world: World, name: Callable[[str], str]) -> dict[tuple[str, str], dict[str, tuple[str, ...]]]:
    """Return the inverted relations: (relation, kind of the members) -> entity -> members."""
    found: dict[tuple[str, str], dict[str, list[str]]] = {}
    for relation, pairs in world.follow.items():
        for one, other in pairs.items():
            found.setdefault((relation, world.kinds[one]), {}).setdefault(name(other), []).append(name(one))
    for film, people in world.members["cast_of"].items():
        for person in people:
            found.setdefault(("cast", "person"), {}).setdefault(name(film), []).append(name(person))
            found.setdefault(("cast", "film"), {}).setdefault(name(person), []).append(name(film))
    return {key: {one: tuple(others) for one, others in groups.items()} for key, groups in found.items()}


def _set(value: Any) -> tuple[str, ...]:
    if not isinstance(value, tuple):
        raise TypeError("not a set")
    return value


def _number(value: Any) -> int:
    if type(value) is not int:
        raise TypeError("not a number")
    return value


def _bind(method: Handler, *fixed: Any) -> Handler:
    return lambda self, **groups: method(self, *fixed, **groups)


def _bound(text: str) -> int:
    digits = text.replace(",", "")
    return int(digits[:-1]) * 10_000 if digits.endswith("만") else int(digits)


def _kept(attribute: str, above: bool) -> Handler:
    return lambda self, x, n: self.keep(attribute, above, _bound(n), x)


def _english() -> list[Rule]:
    ref, name, number = r"(?P<{}>#\d+)", r"(?P<x>.+)", r"(?P<n>[\d,]+)"
    x, y, m, n = (ref.format(letter) for letter in "xymn")
    rules: list[Rule] = [
        (rf"Which \w+ are in both {x} and {y}\?", Interpreter.both),
        (rf"Which \w+ are in {x} or {y}\?", Interpreter.either),
        (rf"How many \w+ are in {ref.format('groups')} for each of {x}\?", Interpreter.counts),
        (rf"How many \w+ are in {x}\?", Interpreter.count),
        (rf"Which of {x} has the highest number in {y}\?", _bind(Interpreter.extreme, True)),
        (rf"Which of {x} has the lowest number in {y}\?", _bind(Interpreter.extreme, False)),
        (rf"What is the difference between {x} and {y}\?", Interpreter.difference),
        (rf"Is {x} greater than {y}\?", _bind(Interpreter.exceeds, True)),
        (rf"Is {x} less than {y}\?", _bind(Interpreter.exceeds, False)),
        (rf"Are {x} and {y} the same\?", Interpreter.same),
    ]
    pair = rf"(?P<x>.+) \({m}\) or (?P<y>.+) \({n}\)"
    for comparative, more in [
        *[("is larger", True), ("has more people", True), ("is longer", True), ("has more employees", True)],
        *[("is smaller", False), ("has fewer people", False), ("is shorter", False), ("has fewer employees", False)],
        *[(f"was {verb} later", True) for verb in ("born", "founded", "released", "published")],
        *[(f"was {verb} earlier", False) for verb in ("born", "founded", "released", "published")],
        *[("has more pages", True), ("has fewer pages", False)],
    ]:
        rules.append((rf"Wh(?:o|ich) {comparative}, {pair}\?", _bind(Interpreter.larger, more)))
    for attribute, above, below in [
        ("population", "have more than {} people", "have fewer than {} people"),
        ("staff", "have more than {} employees", "have fewer than {} employees"),
        ("pages", "have more than {} pages", "have fewer than {} pages"),
        ("minutes", "are longer than {} minutes", "are shorter than {} minutes"),
        ("length", "are longer than {} kilometres", "are shorter than {} kilometres"),
        ("born", "were born after {}", "were born before {}"),
        ("founded", "were founded after {}", "were founded before {}"),
        ("released", "were released after {}", "were released before {}"),
        ("published", "were published after {}", "were published before {}"),
    ]:
        rules.append((rf"Which of {x} {above.format(number)}\?", _kept(attribute, True)))
        rules.append((rf"Which of {x} {below.format(number)}\?", _kept(attribute, False)))
    for attribute, asked in [
        ("area", "How many square kilometres does {} cover"),
        ("population", "How many people live in {}"),
        ("length", "How many kilometres long is {}"),
        ("minutes", "How many minutes long is {}"),
        ("staff", "How many employees does {} have"),
        ("pages", "How many pages does {} have"),
        *[(verb, f"In which year was {{}} {verb}") for verb in ("born", "founded", "released", "published")],
    ]:
        rules.append((asked.format(f"each of {x}") + r"\?", _bind(Interpreter.values, attribute)))
        rules.append((asked.format(name) + r"\?", _bind(Interpreter.value, attribute)))
    for relation, kind, asked in [
        ("director", "film", "Which films were directed by {}"),
        ("producer", "film", "Which films were produced by {}"),
        ("cast", "film", "Which films star {}"),
        ("cast", "person", "Which people star in {}"),
        ("author", "book", "Which books were written by {}"),
        ("publisher", "book", "Which books were published by {}"),
        ("founder", "company", "Which companies were founded by {}"),
        ("base", "company", "Which companies are based in {}"),
        ("birthplace", "person", "Which people were born in {}"),
        ("country", "city", "Which cities are in {}"),
        ("country", "river", "Which rivers are in {}"),
    ]:
        rules.append((asked.format(f"each of {x}") + r"\?", _bind(Interpreter.members_of_each, relation, kind)))
        rules.append((asked.format(name) + r"\?", _bind(Interpreter.members, relation, kind)))
    for relation, asked in [
        ("capital", "What is the capital of {}"),
        ("country", "Which country is {} in"),
        ("birthplace", "Which city was {} born in"),
        ("founder", "Who founded {}"),
        ("base", "Which city is {} based in"),
        ("director", "Who directed {}"),
        ("producer", "Which company produced {}"),
        ("author", "Who wrote {}"),
        ("publisher", "Which company published {}"),
    ]:
        rules.append((asked.format(name) + r"\?", _bind(Interpreter.follow, relation)))
    return rules


def _korean() -> list[Rule]:
    ref, number = r"(?P<{}>#\d+)", r"(?P<n>[\d,]+만?)"
    x, y, m, n = (ref.format(letter) for letter in "xymn")
    subject, topic, with_ = "(?:이|가)", "(?:은|는)", "(?:과|와)"
    what = f"{topic} (?:무엇|누구|어디)인가요\\?"
    kind_of_thing = "(?:영화|책|도시|회사|사람|강|나라)"
    counter = "(?:편|권|곳|명|개)"
    rules: list[Rule] = [
        (rf"{x}, {y} 양쪽에 모두 있는 {kind_of_thing}{what}", Interpreter.both),
        (rf"{x}, {y} 가운데 한쪽에라도 있는 {kind_of_thing}{what}", Interpreter.either),
        (rf"{ref.format('groups')}에 속한 {kind_of_thing}{topic} {x}마다 몇 {counter}인가요\?", Interpreter.counts),
        (rf"{x}에 속한 {kind_of_thing}{topic} 모두 몇 {counter}인가요\?", Interpreter.count),
        (rf"{x} 중에서 {y}의 수가 가장 많은 {kind_of_thing}{what}", _bind(Interpreter.extreme, True)),
        (rf"{x}{with_} {y}의 차이는 얼마인가요\?", Interpreter.difference),
        (rf"{x}{subject} {y}보다 큰가요\?", _bind(Interpreter.exceeds, True)),
        (rf"{x}{subject} {y}보다 작은가요\?", _bind(Interpreter.exceeds, False)),
        (rf"{x}{with_} {y}{topic} 같은가요\?", Interpreter.same),
    ]
    pair = rf"(?P<x>.+)\({m}\){with_} (?P<y>.+)\({n}\) 가운데"
    for attribute, unit, asked, more, less in [
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
    ]:
        rules += [
            (rf"{x} 중에서 {more.format(rf'{number} ?{unit}보다 ')} {kind_of_thing}{what}", _kept(attribute, True)),
            (rf"{x} 중에서 {less.format(rf'{number} ?{unit}보다 ')} {kind_of_thing}{what}", _kept(attribute, False)),
            (rf"{pair} {more.format('더 ')} {kind_of_thing}{what}", _bind(Interpreter.larger, True)),
            (rf"{pair} {less.format('더 ')} {kind_of_thing}{what}", _bind(Interpreter.larger, False)),
        ]
        if unit == "년":
            noun = asked.split("가 ")[0]
            most, least, said = f"{noun}가 가장 늦은", f"{noun}가 가장 이른", _PAST[attribute]
            year = rf"{topic} 몇 년에 {said}나요\?"
            rules += [
                (rf"{x} 각각{year}", _bind(Interpreter.values, attribute)),
                (rf"(?P<x>.+){year}", _bind(Interpreter.value, attribute)),
            ]
        else:
            most, least = more.format("가장 "), less.format("가장 ")
            number_asked = rf"의 {asked}{topic} 몇 {unit}인가요\?"
            rules += [
                (rf"{x} 각각{number_asked}", _bind(Interpreter.values, attribute)),
                (rf"(?P<x>.+){number_asked}", _bind(Interpreter.value, attribute)),
            ]
        rules += [
            (rf"{x} 중에서 {y}의 {most} {kind_of_thing}{what}", _bind(Interpreter.extreme, True)),
            (rf"{x} 중에서 {y}의 {least} {kind_of_thing}{what}", _bind(Interpreter.extreme, False)),
        ]
    for relation, kind, said in [
        ("director", "film", rf"{subject} 감독한 영화"),
        ("producer", "film", rf"{subject} 제작한 영화"),
        ("cast", "film", rf"{subject} 출연한 영화"),
        ("cast", "person", "에 출연한 사람"),
        ("author", "book", rf"{subject} 쓴 책"),
        ("publisher", "book", rf"{subject} 출판한 책"),
        ("founder", "company", rf"{subject} 세운 회사"),
        ("base", "company", "에 본사를 둔 회사"),
        ("birthplace", "person", "에서 태어난 사람"),
        ("country", "city", "에 있는 도시"),
        ("country", "river", "에 있는 강"),
    ]:
        rules.append((rf"{x} 각각{said}{what}", _bind(Interpreter.members_of_each, relation, kind)))
        rules.append((rf"(?P<x>.+?){said}{what}", _bind(Interpreter.members, relation, kind)))
    for relation, said in [
        ("capital", "의 수도"),
        ("country", rf"{subject} 있는 나라"),
        ("birthplace", rf"{subject} 태어난 도시"),
        ("founder", "의 창업자"),
        ("base", "의 본사가 있는 도시"),
        ("director", "의 감독"),
        ("producer", "의 제작사"),
        ("author", "의 저자"),
        ("publisher", "의 출판사"),
    ]:
        rules.append((rf"(?P<x>.+?){said}{what}", _bind(Interpreter.follow, relation)))
    return rules


_PAST = {"born": "태어났", "founded": "설립되었", "released": "개봉했", "published": "출간되었"}
_ENGLISH = _english()
_KOREAN = _korean()
