"""The operations of synthetic steps, over the world: what an answer to one step is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qdsft.data.synth.world import World, load_world

Handler = Callable[..., Any]
Rule = tuple[str, Handler]
"""A pattern of a step, and the operation that answers it, given the named groups of the pattern."""


class StepOperations:
    """The operations that steps name, over the world. Entities are named in one language throughout."""

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
        self._answers: list[Any] = []

    def _get(self, text: str) -> Any:
        """Return the answer that `#n` stands for, or the entity of this name."""
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
        """Return the entity that a relation leads to."""
        return self._follow[relation][self._get(x)]

    def value(self, attribute: str, x: str) -> Any:
        """Return a number of an entity."""
        return self._values[attribute][self._get(x)]

    def values(self, attribute: str, x: str) -> Any:
        """Return a number of each entity of a group."""
        return {name: self._values[attribute][name] for name in _set(self._get(x))}

    def members(self, relation: str, kind: str, x: str) -> Any:
        """Return the entities of a kind that a relation leads from."""
        return self._members[relation, kind].get(self._subject(relation, kind, x), ())

    def _subject(self, relation: str, kind: str, x: str) -> str:
        name = self._get(x)
        if self._kinds[name] not in {self._kinds[one] for one in self._members[relation, kind]}:
            raise KeyError(name)
        return str(name)

    def members_of_each(self, relation: str, kind: str, x: str) -> Any:
        """Return the members of each entity of a group."""
        return {name: self._members[relation, kind].get(name, ()) for name in _set(self._get(x))}

    def counts(self, groups: str, x: str) -> Any:
        """Return how many members each entity of a group has."""
        found = self._get(groups)
        return {name: len(_set(found[name])) for name in _set(self._get(x))}

    def count(self, x: str) -> Any:
        """Return the size of a group."""
        return len(_set(self._get(x)))

    def keep(self, attribute: str, above: bool, bound: int, x: str) -> Any:
        """Return the entities of a group with a number above or below a bound."""
        values = self._values[attribute]
        return tuple(name for name in _set(self._get(x)) if (values[name] > bound if above else values[name] < bound))

    def both(self, x: str, y: str) -> Any:
        """Return the entities that are in both groups."""
        return tuple(name for name in _set(self._get(x)) if name in _set(self._get(y)))

    def either(self, x: str, y: str) -> Any:
        """Return the entities that are in either group."""
        return tuple(dict.fromkeys(_set(self._get(x)) + _set(self._get(y))))

    def extreme(self, highest: bool, x: str, y: str) -> Any:
        """Return the entity of a group with the highest or lowest number."""
        group, numbers = _set(self._get(x)), self._get(y)
        if not isinstance(numbers, dict) or set(numbers) != set(group):
            raise ValueError("the numbers are not those of the group")
        return (max if highest else min)(group, key=lambda name: numbers[name])

    def larger(self, more: bool, x: str, y: str, m: str, n: str) -> Any:
        """Return which of two entities has more or less."""
        pair = [(_number(self._get(m)), self._get(x)), (_number(self._get(n)), self._get(y))]
        return (max if more else min)(pair)[1]

    def difference(self, x: str, y: str) -> Any:
        """Return the distance of two numbers."""
        return abs(_number(self._get(x)) - _number(self._get(y)))

    def exceeds(self, more: bool, x: str, y: str) -> Any:
        """Return whether a number is above or below another."""
        first, second = _number(self._get(x)), _number(self._get(y))
        return first > second if more else first < second

    def same(self, x: str, y: str) -> Any:
        """Return whether two entities of a kind are the same."""
        first, second = self._get(x), self._get(y)
        if self._kinds[first] != self._kinds[second]:
            raise ValueError("of different kinds")
        return first == second


def _all_members(world: World, name: Callable[[str], str]) -> dict[tuple[str, str], dict[str, tuple[str, ...]]]:
    """Return (relation, kind of the members) -> entity -> members, by turning the relations around."""
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


def bind(method: Handler, *fixed: Any) -> Handler:
    """Return an operation with its first arguments set."""
    return lambda self, **groups: method(self, *fixed, **groups)


def _bound(text: str) -> int:
    digits = text.replace(",", "")
    return int(digits[:-1]) * 10_000 if digits.endswith("만") else int(digits)


def kept(attribute: str, above: bool) -> Handler:
    """Return the operation that keeps entities with a number above or below the bound in the step."""
    return lambda self, x, n: self.keep(attribute, above, _bound(n), x)
