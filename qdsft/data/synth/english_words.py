"""English words: nouns, and for every relation, set relation and attribute of the world its phrases.

`{}` is the entity in question, `{n}` a number. A pair has one wording for each style.
"""

from __future__ import annotations

from typing import NamedTuple

Pair = tuple[str, str]


class Relation(NamedTuple):
    """Words of a relation with one answer."""

    step: str
    nouns: Pair
    """The answer as a noun phrase."""
    same: Pair
    """The auxiliary and the rest of "do two have the same one?"; empty if no question needs it."""


class SetRelation(NamedTuple):
    """Words of a relation with several answers."""

    clauses: Pair
    """The words after the noun."""
    predicates: Pair
    """The words after a relative pronoun or a question word; the entity comes last."""
    most: str
    """The predicate of the entity with the most members; empty if no question needs it."""


class Attribute(NamedTuple):
    """Words of a number."""

    step: str
    noun: str
    above: Pair
    below: Pair
    highest: Pair
    """An adjective, and a phrase after the noun."""
    lowest: Pair
    more: str
    less: str


NOUNS = {
    "country": ("country", "countries"),
    "city": ("city", "cities"),
    "river": ("river", "rivers"),
    "person": ("person", "people"),
    "company": ("company", "companies"),
    "film": ("film", "films"),
    "book": ("book", "books"),
}
"""Kind -> singular, plural."""

RELATIONS = {
    "capital": Relation("What is the capital of {}?", ("the capital of {}", "the capital city of {}"), ("", "")),
    "country": Relation(
        "Which country is {} in?",
        ("the country containing {}", "the country of {}"),
        ("Are", "in the same country"),
    ),
    "birthplace": Relation(
        "Which city was {} born in?",
        ("the city where {} was born", "the birthplace of {}"),
        ("Were", "born in the same city"),
    ),
    "founder": Relation(
        "Who founded {}?", ("the founder of {}", "the person who founded {}"), ("Do", "have the same founder")
    ),
    "base": Relation(
        "Which city is {} based in?",
        ("the city where {} is based", "the home city of {}"),
        ("Are", "based in the same city"),
    ),
    "director": Relation(
        "Who directed {}?", ("the director of {}", "the person who directed {}"), ("Do", "have the same director")
    ),
    "producer": Relation(
        "Which company produced {}?",
        ("the producer of {}", "the company that produced {}"),
        ("Do", "have the same producer"),
    ),
    "author": Relation(
        "Who wrote {}?", ("the author of {}", "the person who wrote {}"), ("Do", "have the same author")
    ),
    "publisher": Relation(
        "Which company published {}?",
        ("the publisher of {}", "the company that published {}"),
        ("Do", "have the same publisher"),
    ),
}

SET_RELATIONS = {
    "directed": SetRelation(
        ("directed by {}", "with {} as director"),
        ("were directed by {}", "had {} as director"),
        "directed the most films",
    ),
    "starring": SetRelation(("starring {}", "featuring {}"), ("star {}", "feature {}"), "appeared in the most films"),
    "produced": SetRelation(
        ("produced by {}", "made by {}"), ("were produced by {}", "had {} as producer"), "produced the most films"
    ),
    "written": SetRelation(
        ("written by {}", "penned by {}"), ("were written by {}", "were penned by {}"), "wrote the most books"
    ),
    "issued": SetRelation(
        ("published by {}", "brought out by {}"),
        ("were published by {}", "were brought out by {}"),
        "published the most books",
    ),
    "founded_by": SetRelation(
        ("founded by {}", "set up by {}"), ("were founded by {}", "were set up by {}"), "founded the most companies"
    ),
    "based_in": SetRelation(
        ("based in {}", "headquartered in {}"),
        ("are based in {}", "have their head office in {}"),
        "is home to the most companies",
    ),
    "born_in": SetRelation(
        ("born in {}", "from {}"), ("were born in {}", "come from {}"), "is the birthplace of the most people"
    ),
    "cities_in": SetRelation(("in {}", "located in {}"), ("are in {}", "are located in {}"), ""),
    "rivers_in": SetRelation(("in {}", "located in {}"), ("are in {}", "are located in {}"), ""),
    "cast_of": SetRelation(
        ("in the cast of {}", "appearing in {}"), ("star in {}", "appear in {}"), "has the largest cast"
    ),
}

ATTRIBUTES = {
    "area": Attribute(
        "How many square kilometres does {} cover?",
        "area",
        above=("cover more than {n} square kilometres", "cover more than {n} square kilometres"),
        below=("cover less than {n} square kilometres", "cover less than {n} square kilometres"),
        highest=("largest", "with the largest area"),
        lowest=("smallest", "with the smallest area"),
        more="is larger",
        less="is smaller",
    ),
    "population": Attribute(
        "How many people live in {}?",
        "population",
        above=("have more than {n} people", "have over {n} inhabitants"),
        below=("have fewer than {n} people", "have under {n} inhabitants"),
        highest=("most populous", "with the most people"),
        lowest=("least populous", "with the fewest people"),
        more="has more people",
        less="has fewer people",
    ),
    "length": Attribute(
        "How many kilometres long is {}?",
        "length",
        above=("are longer than {n} kilometres", "measure over {n} kilometres"),
        below=("are shorter than {n} kilometres", "measure under {n} kilometres"),
        highest=("longest", "with the greatest length"),
        lowest=("shortest", "with the smallest length"),
        more="is longer",
        less="is shorter",
    ),
    "born": Attribute(
        "In which year was {} born?",
        "birth year",
        above=("were born after {n}", "have a birth year after {n}"),
        below=("were born before {n}", "have a birth year before {n}"),
        highest=("youngest", "with the latest birth year"),
        lowest=("oldest", "with the earliest birth year"),
        more="was born later",
        less="was born earlier",
    ),
    "founded": Attribute(
        "In which year was {} founded?",
        "founding year",
        above=("were founded after {n}", "started after {n}"),
        below=("were founded before {n}", "started before {n}"),
        highest=("newest", "with the latest founding year"),
        lowest=("oldest", "with the earliest founding year"),
        more="was founded later",
        less="was founded earlier",
    ),
    "staff": Attribute(
        "How many employees does {} have?",
        "staff size",
        above=("have more than {n} employees", "employ over {n} people"),
        below=("have fewer than {n} employees", "employ under {n} people"),
        highest=("largest", "with the most employees"),
        lowest=("smallest", "with the fewest employees"),
        more="has more employees",
        less="has fewer employees",
    ),
    "released": Attribute(
        "In which year was {} released?",
        "release year",
        above=("were released after {n}", "came out after {n}"),
        below=("were released before {n}", "came out before {n}"),
        highest=("newest", "with the latest release year"),
        lowest=("oldest", "with the earliest release year"),
        more="was released later",
        less="was released earlier",
    ),
    "minutes": Attribute(
        "How many minutes long is {}?",
        "running time",
        above=("are longer than {n} minutes", "run for over {n} minutes"),
        below=("are shorter than {n} minutes", "run for under {n} minutes"),
        highest=("longest", "with the longest running time"),
        lowest=("shortest", "with the shortest running time"),
        more="is longer",
        less="is shorter",
    ),
    "published": Attribute(
        "In which year was {} published?",
        "publication year",
        above=("were published after {n}", "appeared after {n}"),
        below=("were published before {n}", "appeared before {n}"),
        highest=("newest", "with the latest publication year"),
        lowest=("oldest", "with the earliest publication year"),
        more="was published later",
        less="was published earlier",
    ),
    "pages": Attribute(
        "How many pages does {} have?",
        "page count",
        above=("have more than {n} pages", "run to over {n} pages"),
        below=("have fewer than {n} pages", "run to under {n} pages"),
        highest=("longest", "with the most pages"),
        lowest=("shortest", "with the fewest pages"),
        more="has more pages",
        less="has fewer pages",
    ),
}
