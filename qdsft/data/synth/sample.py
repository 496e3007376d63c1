"""The space of all questions: the programs, numbered so that each can be made by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from qdsft.data.synth import programs as p
from qdsft.data.synth.answers import entities, entity, kind_of
from qdsft.data.synth.form import Block, Form, listed, wrapped
from qdsft.data.synth.programs import Node
from qdsft.data.synth.world import ATTRIBUTES, RELATIONS, SETS, World

_STEPS_BETWEEN_BOUNDS = {
    **{"area": 50_000, "population": 100_000, "length": 100, "staff": 500, "minutes": 10, "pages": 50},
    **dict.fromkeys(("born", "founded", "released", "published"), 5),
}
"""Bounds in questions are round numbers."""
_INTERSECTIONS = (
    *(("directed", "starring"), ("directed", "produced"), ("starring", "produced"), ("starring", "starring")),
    *(("written", "issued"), ("founded_by", "based_in"), ("born_in", "cast_of"), ("cast_of", "cast_of")),
)
_UNIONS = (
    *(("directed", "directed"), ("directed", "starring"), ("starring", "starring"), ("written", "written")),
    *(("written", "issued"), ("based_in", "based_in"), ("founded_by", "based_in"), ("born_in", "born_in")),
    *(("cast_of", "cast_of"), ("born_in", "cast_of"), ("cities_in", "cities_in"), ("produced", "produced")),
)
_GROUPS = {
    "city": ("based_in", "born_in"),
    "person": ("directed", "starring", "written"),
    "company": ("produced", "issued"),
}


def forms(world: World) -> dict[str, Form]:
    """Return all shapes of program by name. Every program occurs once in one of them."""
    return _Maker(world).forms()


def single_hop_forms(world: World) -> dict[str, Form]:
    """Return the shapes of questions that are one step already; styles repeat some of their questions."""
    return _Maker(world).single_hop_forms()


class _Maker:
    def __init__(self, world: World) -> None:
        self._world = world
        self._named: list[Node] = [p.Named(name) for name in world.kinds]
        self._once = self._follow(self._named)
        self._twice = self._follow(self._once)
        self._sets = self._members(self._named)
        self._far_sets = self._members(self._once)

    def forms(self) -> dict[str, Form]:
        named, once, twice, sets, far_sets = self._named, self._once, self._twice, self._sets, self._far_sets
        return {
            "chain": listed([*self._values(once), *twice]),
            "long chain": listed([*self._values(twice), *self._follow(twice)]),
            "filter": Form(self._filters(sets)),
            "two filters": Form(self._two_filters(sets)),
            "filter after chain": Form(self._filters(far_sets)),
            "intersection": listed(self._joined(p.Both, _INTERSECTIONS, sets, sets)),
            "intersection after chain": listed(self._joined(p.Both, _INTERSECTIONS, far_sets, sets)),
            "union": listed(self._joined(p.Either, _UNIONS, sets, sets)),
            "union after chain": listed(self._joined(p.Either, _UNIONS, sets, far_sets)),
            "superlative": listed(self._superlatives(sets)),
            "superlative before chain": listed(self._beyond(self._superlatives(sets + far_sets))),
            "count": listed([p.Count(one) for one in sets + far_sets]),
            "count after filter": Form(wrapped(p.Count, self._filters(sets + far_sets))),
            "count after intersection": listed(
                [p.Count(one) for one in self._joined(p.Both, _INTERSECTIONS, sets, sets)]
            ),
            "comparison": Form(self._compared(p.Compare, named, named, 2), styles=1),
            "comparison after chain": self._chains(partial(self._compared, p.Compare, ways=2)),
            "difference": Form(self._compared(p.Difference, named, named, 1), styles=1),
            "difference after chain": self._chains(partial(self._compared, p.Difference, ways=1)),
            "boolean": Form([*self._compared(p.Exceeds, named, named, 2), *self._same(named, named)], styles=1),
            "boolean after chain": self._chains(partial(self._compared, p.Exceeds, ways=2)) + self._chains(self._same),
            "group": listed(self._groups(p.PerGroup, sets + far_sets)),
            "group before superlative": listed(self._groups(p.MostMembers, sets + far_sets)),
        }

    def single_hop_forms(self) -> dict[str, Form]:
        return {"value": listed(self._values(self._named)), "relation": listed(self._once)}

    def _chains(self, pairs: Callable[[Sequence[Node], Sequence[Node]], Iterable[Block]]) -> Form:
        """Return pairs with a chain on one side, in two styles, or on both sides, each with its own style."""
        once, named = self._once, self._named
        return Form(pairs(once, once), styles=4) + Form([*pairs(once, named), *pairs(named, once)])

    def _follow(self, nodes: Sequence[Node]) -> list[Node]:
        """Return every node with every fitting relation, except back to where the chain came from."""
        follow, world = self._world.follow, self._world
        return [
            p.Follow(relation, node)
            for node in nodes
            for relation in RELATIONS
            if entity(node, world) in follow[relation]
            and not (isinstance(node, p.Follow) and {node.relation, relation} == {"capital", "country"})
        ]

    def _values(self, nodes: Sequence[Node]) -> list[Node]:
        kinds = [(node, kind_of(node, self._world)) for node in nodes]
        return [
            p.Value(attribute, node) for node, kind in kinds for attribute, owner in ATTRIBUTES.items() if owner == kind
        ]

    def _members(self, nodes: Sequence[Node]) -> list[p.Members]:
        """Return all sets with at least one member."""
        world = self._world
        kinds = [(node, kind_of(node, world)) for node in nodes]
        found = [
            p.Members(relation, node)
            for node, kind in kinds
            for relation, (owner, _, _) in SETS.items()
            if owner == kind
        ]
        return [one for one in found if entities(one, world)]

    def _bounds(self, names: Sequence[str], attribute: str) -> range:
        """Return round numbers with some of these entities above and some below."""
        values = [self._world.values[attribute][name] for name in names]
        step = _STEPS_BETWEEN_BOUNDS[attribute]
        return range((min(values) // step + 1) * step, max(values), step)

    def _filters(self, groups: Sequence[p.Members]) -> Iterator[Block]:
        for group in groups:
            yield from self._conditions(group, entities(group, self._world))

    def _two_filters(self, groups: Sequence[p.Members]) -> Iterator[Block]:
        for group in groups:
            for size, make in self._conditions(group, entities(group, self._world)):
                for inner in map(make, range(size)):
                    assert isinstance(inner, p.Filter)
                    yield from self._conditions(inner, entities(inner, self._world), besides=inner.attribute)

    def _conditions(self, group: Node, names: Sequence[str], besides: str = "") -> Iterator[Block]:
        """Yield for every attribute a block of all filters of a set that keep some entities and drop some."""
        for attribute in self._attributes(group):
            if attribute != besides and (bounds := self._bounds(names, attribute)):
                yield 2 * len(bounds), partial(_condition, group, attribute, bounds)

    def _attributes(self, node: Node) -> list[str]:
        kind = kind_of(node, self._world)
        return [attribute for attribute, owner in ATTRIBUTES.items() if owner == kind]

    def _joined(
        self,
        join: type[p.Both] | type[p.Either],
        relations: Iterable[tuple[str, str]],
        left: Sequence[p.Members],
        right: Sequence[p.Members],
    ) -> list[Node]:
        """Return pairs of different sets; an intersection has at least one member."""
        found: list[Node] = []
        for first, second in relations:
            others = [one for one in right if one.relation == second]
            for one in left:
                if one.relation == first:
                    found += [join(one, other) for other in others if self._may_join(join, one, other)]
        return found

    def _may_join(self, join: type[p.Both] | type[p.Either], one: p.Members, other: p.Members) -> bool:
        world = self._world
        if one.relation == other.relation and entity(one.of, world) == entity(other.of, world):
            return False
        return join is p.Either or not set(entities(one, world)).isdisjoint(entities(other, world))

    def _superlatives(self, groups: Sequence[p.Members]) -> list[Node]:
        return [
            p.Superlative(group, attribute, most)
            for group in groups
            if len(entities(group, self._world)) > 1
            for attribute in self._attributes(group)
            for most in (True, False)
        ]

    def _beyond(self, nodes: Sequence[Node]) -> list[Node]:
        return [*self._follow(nodes), *self._values(nodes)]

    def _pairs(self, left: Sequence[Node], right: Sequence[Node]) -> Iterator[tuple[Node, str, list[Node]]]:
        """Yield every node of `left`, its kind, and the nodes of `right` of that kind that are another entity."""
        known = [(node, kind_of(node, self._world), entity(node, self._world)) for node in right]
        for node in left:
            kind, name = kind_of(node, self._world), entity(node, self._world)
            yield node, kind, [other for other, its_kind, its_name in known if its_kind == kind and its_name != name]

    def _compared(
        self, make: Callable[..., Node], left: Sequence[Node], right: Sequence[Node], ways: int
    ) -> Iterator[Block]:
        for node, _, others in self._pairs(left, right):
            for attribute in self._attributes(node):
                yield ways * len(others), partial(_compared, make, node, others, attribute, ways)

    def _same(self, left: Sequence[Node], right: Sequence[Node]) -> Iterator[Block]:
        for node, kind, others in self._pairs(left, right):
            for relation, (owner, _) in RELATIONS.items():
                fits = kind == owner or (relation == "country" and kind == "river")
                capital = isinstance(node, p.Follow) and node.relation == "capital"
                if fits and relation != "capital" and not capital:
                    yield len(others), partial(_same, node, others, relation)

    def _groups(self, make: type[p.PerGroup] | type[p.MostMembers], groups: Sequence[p.Members]) -> list[Node]:
        found: list[Node] = []
        for group in groups:
            names = entities(group, self._world)
            for relation in _GROUPS.get(kind_of(group, self._world), ()):
                sizes = sorted(len(self._world.members[relation].get(name, ())) for name in names)
                if len(sizes) > 1 and (sizes[-1] > sizes[-2] or (make is p.PerGroup and sizes[-1])):
                    found.append(make(group, relation))
        return found


def _condition(group: Node, attribute: str, bounds: range, index: int) -> Node:
    return p.Filter(group, attribute, index % 2 == 0, bounds[index // 2])


def _compared(
    make: Callable[..., Node], left: Node, others: Sequence[Node], attribute: str, ways: int, index: int
) -> Node:
    other = others[index // ways]
    return make(left, other, attribute, index % 2 == 0) if ways == 2 else make(left, other, attribute)


def _same(left: Node, others: Sequence[Node], relation: str, index: int) -> Node:
    return p.Same(left, others[index], relation)
