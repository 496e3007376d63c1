"""Programs: the meaning of a question as a tree of operations over the world."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Named:
    """An entity by its name."""

    name: str


@dataclass(frozen=True, slots=True)
class Follow:
    """The only entity in a relation to another: the director of a film."""

    relation: str
    of: Node


@dataclass(frozen=True, slots=True)
class Value:
    """A number of an entity: the population of a city."""

    attribute: str
    of: Node


@dataclass(frozen=True, slots=True)
class Members:
    """All entities in a relation to another: the films of a director."""

    relation: str
    of: Node


@dataclass(frozen=True, slots=True)
class Filter:
    """The entities of a set with an attribute strictly above, or strictly below, a bound."""

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
    """The entity of a set with the highest, or lowest, value of an attribute."""

    of: Node
    attribute: str
    most: bool


@dataclass(frozen=True, slots=True)
class Count:
    """The size of a set."""

    of: Node


@dataclass(frozen=True, slots=True)
class Compare:
    """The one of two entities with more, or less, of an attribute."""

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
    """For each entity of a set, the number of entities in a relation to it."""

    of: Node
    relation: str


@dataclass(frozen=True, slots=True)
class MostMembers:
    """The entity of a set with the most entities in a relation to it."""

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


def named(program: Node) -> set[str]:
    """Return the entities that a program, and so its question, names."""
    if isinstance(program, Named):
        return {program.name}
    inner = (program.left, program.right) if isinstance(program, _PAIRS) else (program.of,)
    return set().union(*map(named, inner))


def operations(program: Node) -> list[str]:
    """Return the operations in a program, each once, outermost last; `chain` if one lookup uses another's answer."""
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
