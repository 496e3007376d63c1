"""Programs: what a synthetic question asks, as a tree of operations that can be evaluated over the world."""

from __future__ import annotations

from dataclasses import dataclass

from qdsft.synth.world import ATTRIBUTES, RELATIONS, SETS, World

Answer = str | int | bool | tuple[str, ...] | dict[str, int]
"""An entity, a number, yes or no, entities, or a number for each entity."""


@dataclass(frozen=True, slots=True)
class Named:
    """An entity by its name."""

    name: str


@dataclass(frozen=True, slots=True)
class Follow:
    """The one entity that stands in a relation to another: the director of a film."""

    relation: str
    of: Node


@dataclass(frozen=True, slots=True)
class Value:
    """A number of an entity: the population of a city."""

    attribute: str
    of: Node


@dataclass(frozen=True, slots=True)
class Members:
    """All entities that stand in a relation to another: the films of a director."""

    relation: str
    of: Node


@dataclass(frozen=True, slots=True)
class Filter:
    """Those entities of a set whose attribute lies strictly above, or strictly below, a bound."""

    of: Node
    attribute: str
    above: bool
    bound: int


@dataclass(frozen=True, slots=True)
class Both:
    """Intersection of two sets."""

    left: Members
    right: Members


@dataclass(frozen=True, slots=True)
class Either:
    """Union of two sets."""

    left: Members
    right: Members


@dataclass(frozen=True, slots=True)
class Superlative:
    """The entity of a set whose attribute is highest, or lowest."""

    of: Node
    attribute: str
    most: bool


@dataclass(frozen=True, slots=True)
class Count:
    """The size of a set."""

    of: Node


@dataclass(frozen=True, slots=True)
class Compare:
    """Which of two entities has more, or less, of an attribute."""

    left: Node
    right: Node
    attribute: str
    more: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """The distance between an attribute of two entities."""

    left: Node
    right: Node
    attribute: str


@dataclass(frozen=True, slots=True)
class Exceeds:
    """Whether the first entity has more, or less, of an attribute than the second."""

    left: Node
    right: Node
    attribute: str
    more: bool


@dataclass(frozen=True, slots=True)
class Same:
    """Whether a relation leads from two entities to the same one."""

    left: Node
    right: Node
    relation: str


@dataclass(frozen=True, slots=True)
class PerGroup:
    """For each entity of a set, how many stand in a relation to it."""

    of: Node
    relation: str


@dataclass(frozen=True, slots=True)
class MostMembers:
    """The entity of a set to which the most stand in a relation."""

    of: Node
    relation: str


Node = (
    Named
    | Follow
    | Value
    | Members
    | Filter
    | Both
    | Either
    | Superlative
    | Count
    | Compare
    | Difference
    | Exceeds
    | Same
    | PerGroup
    | MostMembers
)


def kind_of(node: Node, world: World) -> str:
    """The kind of the entity, or of the entities, that a node stands for."""
    match node:
        case Named(name):
            return world.kinds[name]
        case Follow(relation, _):
            return RELATIONS[relation][1]
        case Members(relation, _):
            return SETS[relation][1]
        case Filter(of=of) | Superlative(of=of) | MostMembers(of=of) | Both(left=of) | Either(left=of):
            return kind_of(of, world)
        case Compare(attribute=attribute):
            return ATTRIBUTES[attribute]
        case _:
            raise ValueError(f"{node} stands for no entities")


def entity(node: Node, world: World) -> str:
    """The entity that a node stands for."""
    match node:
        case Named(name):
            return name
        case Follow(relation, of):
            return world.follow[relation][entity(of, world)]
        case Superlative(of, attribute, most):
            return (max if most else min)(entities(of, world), key=world.values[attribute].__getitem__)
        case Compare(left, right, attribute, more):
            pair = (entity(left, world), entity(right, world))
            return (max if more else min)(pair, key=world.values[attribute].__getitem__)
        case MostMembers(of, relation):
            groups = world.members[relation]
            return max(entities(of, world), key=lambda name: len(groups.get(name, ())))
        case _:
            raise ValueError(f"{node} does not stand for one entity")


def entities(node: Node, world: World) -> tuple[str, ...]:
    """The entities that a node stands for, in the order of the world's tables where it is a relation's."""
    match node:
        case Members(relation, of):
            return world.members[relation].get(entity(of, world), ())
        case Filter(of, attribute, above, bound):
            values = world.values[attribute]
            return tuple(
                name for name in entities(of, world) if (values[name] > bound if above else values[name] < bound)
            )
        case Both(left, right):
            others = entities(right, world)
            return tuple(name for name in entities(left, world) if name in others)
        case Either(left, right):
            first = entities(left, world)
            return first + tuple(name for name in entities(right, world) if name not in first)
        case _:
            raise ValueError(f"{node} does not stand for entities")


def evaluate(program: Node, world: World) -> Answer:
    """The answer of a program."""
    match program:
        case Value(attribute, of):
            return world.values[attribute][entity(of, world)]
        case Members() | Filter() | Both() | Either():
            return entities(program, world)
        case Count(of):
            return len(entities(of, world))
        case Difference(left, right, attribute):
            values = world.values[attribute]
            return abs(values[entity(left, world)] - values[entity(right, world)])
        case Exceeds(left, right, attribute, more):
            first, second = (world.values[attribute][entity(side, world)] for side in (left, right))
            return first > second if more else first < second
        case Same(left, right, relation):
            follow = world.follow[relation]
            return follow[entity(left, world)] == follow[entity(right, world)]
        case PerGroup(of, relation):
            groups = world.members[relation]
            return {name: len(groups.get(name, ())) for name in entities(of, world)}
        case _:
            return entity(program, world)


_NAMES: dict[type, str] = {
    Filter: "filter",
    Both: "intersection",
    Either: "union",
    Superlative: "superlative",
    Count: "count",
    Compare: "comparison",
    Difference: "difference",
    Exceeds: "boolean",
    Same: "boolean",
    PerGroup: "group",
    MostMembers: "group",
}

_PAIRS = Both | Either | Compare | Difference | Exceeds | Same


def operations(program: Node) -> list[str]:
    """Names of the operations in a program, each once, outermost last; `chain` where one lookup feeds another."""
    found: list[str] = []
    _collect(program, found)
    return list(dict.fromkeys(found))


def _collect(node: Node, found: list[str]) -> None:
    if isinstance(node, Named):
        return
    inner = (node.left, node.right) if isinstance(node, _PAIRS) else (node.of,)
    for one in inner:
        _collect(one, found)
    if any(isinstance(one, Follow) for one in inner) or isinstance(inner[0], Superlative):
        found.append("chain")
    if type(node) in _NAMES:
        found.append(_NAMES[type(node)])
    if isinstance(node, MostMembers):
        found.append("superlative")
