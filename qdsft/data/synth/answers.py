"""Evaluate programs over the world."""

from __future__ import annotations

from qdsft.data.synth import programs as p
from qdsft.data.synth.programs import Node
from qdsft.data.synth.world import ATTRIBUTES, RELATIONS, SETS, World

Answer = str | int | bool | tuple[str, ...] | dict[str, int]
"""An entity, a number, yes or no, entities, or a number for each entity."""


def kind_of(node: Node, world: World) -> str:
    """Return the kind of the entity or entities of a node."""
    match node:
        case p.Named(name):
            return world.kinds[name]
        case p.Follow(relation, _):
            return RELATIONS[relation][1]
        case p.Members(relation, _):
            return SETS[relation][1]
        case p.Filter(of=of) | p.Superlative(of=of) | p.MostMembers(of=of) | p.Both(left=of) | p.Either(left=of):
            return kind_of(of, world)
        case p.Compare(attribute=attribute):
            return ATTRIBUTES[attribute]
        case _:
            raise ValueError(f"{node} has no entities")


def entity(node: Node, world: World) -> str:
    """Return the entity of a node."""
    match node:
        case p.Named(name):
            return name
        case p.Follow(relation, of):
            return world.follow[relation][entity(of, world)]
        case p.Superlative(of, attribute, most):
            return (max if most else min)(entities(of, world), key=world.values[attribute].__getitem__)
        case p.Compare(left, right, attribute, more):
            pair = (entity(left, world), entity(right, world))
            return (max if more else min)(pair, key=world.values[attribute].__getitem__)
        case p.MostMembers(of, relation):
            groups = world.members[relation]
            return max(entities(of, world), key=lambda name: len(groups.get(name, ())))
        case _:
            raise ValueError(f"{node} is not one entity")


def entities(node: Node, world: World) -> tuple[str, ...]:
    """Return the entities of a node. The members of a relation are in the order of the world's tables."""
    match node:
        case p.Members(relation, of):
            return world.members[relation].get(entity(of, world), ())
        case p.Filter(of, attribute, above, bound):
            values = world.values[attribute]
            return tuple(
                name for name in entities(of, world) if (values[name] > bound if above else values[name] < bound)
            )
        case p.Both(left, right):
            others = entities(right, world)
            return tuple(name for name in entities(left, world) if name in others)
        case p.Either(left, right):
            first = entities(left, world)
            return first + tuple(name for name in entities(right, world) if name not in first)
        case _:
            raise ValueError(f"{node} is not a set of entities")


def evaluate(program: Node, world: World) -> Answer:
    """Return the answer of a program."""
    match program:
        case p.Value(attribute, of):
            return world.values[attribute][entity(of, world)]
        case p.Members() | p.Filter() | p.Both() | p.Either():
            return entities(program, world)
        case p.Count(of):
            return len(entities(of, world))
        case p.Difference(left, right, attribute):
            values = world.values[attribute]
            return abs(values[entity(left, world)] - values[entity(right, world)])
        case p.Exceeds(left, right, attribute, more):
            first, second = (world.values[attribute][entity(side, world)] for side in (left, right))
            return first > second if more else first < second
        case p.Same(left, right, relation):
            follow = world.follow[relation]
            return follow[entity(left, world)] == follow[entity(right, world)]
        case p.PerGroup(of, relation):
            groups = world.members[relation]
            return {name: len(groups.get(name, ())) for name in entities(of, world)}
        case _:
            return entity(program, world)
