"""Turn a program into the steps of its decomposition, still without words."""

from __future__ import annotations

from typing import NamedTuple

from qdsft.data.synth import programs as p
from qdsft.data.synth.answers import kind_of
from qdsft.data.synth.programs import Node
from qdsft.data.synth.world import SETS, World

Reference = str | int
"""The name of an entity, or the number of the step that finds it."""


class Step(NamedTuple):
    """One step: the operation (`act`), its relation or attribute (`name`), and the entities or steps it is about."""

    act: str
    name: str
    references: tuple[Reference, ...]
    kind: str = ""
    """The kind of the entities in a set, if the wording needs it."""
    up: bool = True
    """More, above or highest rather than less, below or lowest."""
    bound: int = 0


def plan(program: Node, world: World) -> list[Step]:
    """Return the steps of a program in the order of their answers. The last one gives the answer of the program."""
    steps: list[Step] = []
    _add(program, world, steps)
    return steps


def _add(node: Node, world: World, steps: list[Step]) -> Reference:
    """Append the steps of a node and return a reference to its answer."""

    def sub(inner: Node) -> Reference:
        return _add(inner, world, steps)

    def then(act: str, name: str, *references: Reference, kind: str = "", up: bool = True, bound: int = 0) -> int:
        steps.append(Step(act, name, references, kind, up, bound))
        return len(steps)

    match node:
        case p.Named(name):
            return name
        case p.Follow(relation, of):
            return then("follow", relation, sub(of))
        case p.Value(attribute, of):
            return then("value", attribute, sub(of))
        case p.Members(relation, of):
            return then("members", relation, sub(of), kind=SETS[relation][1])
        case p.Filter(of, attribute, above, bound):
            return then("filter", attribute, sub(of), kind=kind_of(of, world), up=above, bound=bound)
        case p.Both(left, right):
            return then("both", "", sub(left), sub(right), kind=kind_of(left, world))
        case p.Either(left, right):
            return then("either", "", sub(left), sub(right), kind=kind_of(left, world))
        case p.Superlative(of, attribute, most):
            group = sub(of)
            return then("top", attribute, group, then("each_value", attribute, group), kind=kind_of(of, world), up=most)
        case p.Count(of):
            return then("count", "", sub(of), kind=kind_of(of, world))
        case p.Same(left, right, relation):
            first, second = sub(left), sub(right)
            return then("same", "", then("follow", relation, first), then("follow", relation, second))
        case p.Compare(left, right, attribute, more):
            first, second = sub(left), sub(right)
            values = then("value", attribute, first), then("value", attribute, second)
            return then("compare", attribute, first, second, *values, kind=kind_of(left, world), up=more)
        case p.Difference(left, right, attribute):
            first, second = sub(left), sub(right)
            return then("difference", "", then("value", attribute, first), then("value", attribute, second))
        case p.Exceeds(left, right, attribute, more):
            first, second = sub(left), sub(right)
            return then("exceeds", "", then("value", attribute, first), then("value", attribute, second), up=more)
        case p.PerGroup(of, relation) | p.MostMembers(of, relation):
            group = sub(of)
            members = then("each_members", relation, group, kind=SETS[relation][1])
            counts = then("each_count", "", members, group, kind=SETS[relation][1])
            if isinstance(node, p.PerGroup):
                return counts
            return then("most", relation, group, counts, kind=kind_of(of, world))
