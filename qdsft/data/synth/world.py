"""The fictional world of synthetic questions: entities with names in two languages, relations, numbers.

All names are invented. No two entities of a kind share the value of an attribute, so comparisons and superlatives have
one answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

RELATIONS = {
    "capital": ("country", "city"),
    "country": ("city", "country"),
    "birthplace": ("person", "city"),
    "founder": ("company", "person"),
    "base": ("company", "city"),
    "director": ("film", "person"),
    "producer": ("film", "company"),
    "author": ("book", "person"),
    "publisher": ("book", "company"),
}
"""Relation with one answer -> kind of its subject (rivers have a country, too), kind of the answer."""

ATTRIBUTES = {
    "area": "country",
    "population": "city",
    "length": "river",
    "born": "person",
    "founded": "company",
    "staff": "company",
    "released": "film",
    "minutes": "film",
    "published": "book",
    "pages": "book",
}
"""Number -> kind of its owner. Units: km2, people, km, years, years, people, years, minutes, years, pages."""

SETS = {
    "directed": ("person", "film", "director"),
    "starring": ("person", "film", "cast"),
    "produced": ("company", "film", "producer"),
    "written": ("person", "book", "author"),
    "issued": ("company", "book", "publisher"),
    "founded_by": ("person", "company", "founder"),
    "based_in": ("city", "company", "base"),
    "born_in": ("city", "person", "birthplace"),
    "cities_in": ("country", "city", "country"),
    "rivers_in": ("country", "river", "country"),
    "cast_of": ("film", "person", "cast"),
}
"""Relation with several answers -> kind of its subject, kind of the answers, column that holds it."""


@dataclass(frozen=True, slots=True)
class World:
    """All facts. An entity is identified by its English name."""

    kinds: dict[str, str]
    """Entity -> kind, in the order of the tables."""
    korean: dict[str, str]
    """Entity -> name in Korean."""
    follow: dict[str, dict[str, str]]
    """Relation -> entity -> entity."""
    values: dict[str, dict[str, int]]
    """Attribute -> entity -> number."""
    members: dict[str, dict[str, tuple[str, ...]]]
    """Set relation -> entity -> entities in the order of the tables; an entity without any is absent."""

    def held_out(self) -> frozenset[str]:
        """Return the entities that `--entities seen` never names: every sixth of a kind."""
        kinds = {kind: [name for name, its in self.kinds.items() if its == kind] for kind in self.kinds.values()}
        return frozenset(name for names in kinds.values() for name in names[5::6])


def load_world() -> World:
    """Read world.txt: a table for each kind, with the names of its columns in the first line."""
    world = World({}, {}, {name: {} for name in RELATIONS}, {name: {} for name in ATTRIBUTES}, {})
    cells: dict[str, dict[str, dict[str, str]]] = {}
    for table in Path(__file__).with_name("world.txt").read_text(encoding="utf-8").strip().split("\n\n"):
        (kind, _, *columns), *rows = (line.split(" | ") for line in table.split("\n"))
        for name, korean, *rest in rows:
            world.kinds[name], world.korean[name] = kind, korean
            row = dict(zip(columns, rest, strict=True))
            cells.setdefault(kind, {})[name] = row
            for column, cell in row.items():
                if column in RELATIONS:
                    world.follow[column][name] = cell
                elif column in ATTRIBUTES:
                    world.values[column][name] = int(cell)
    for relation, (owner, member, column) in SETS.items():
        world.members[relation] = _members(cells, owner, member, column)
    return world


def _members(
    cells: dict[str, dict[str, dict[str, str]]], owner: str, member: str, column: str
) -> dict[str, tuple[str, ...]]:
    """Return entity of kind `owner` -> the entities of kind `member` that belong to it."""
    if owner == "film":  # the cast is in the film's own row
        return {name: tuple(row[column].split(", ")) for name, row in cells[owner].items()}
    found: dict[str, list[str]] = {name: [] for name in cells[owner]}
    for name, row in cells[member].items():
        for cell in row[column].split(", "):
            found[cell].append(name)
    return {name: tuple(names) for name, names in found.items() if names}
