"""The patterns of English steps, and the operations that answer them."""

from __future__ import annotations

from collections.abc import Iterator

from qdsft.data.synth.step_operations import Rule, StepOperations, bind, kept

NAME, NUMBER = r"(?P<x>.+)", r"(?P<n>[\d,]+)"
X, Y, M, N, GROUPS = (rf"(?P<{name}>#\d+)" for name in ("x", "y", "m", "n", "groups"))


def english_rules() -> list[Rule]:
    """Return all rules, in the order in which they are tried."""
    return [*_groups(), *_comparisons(), *_filters(), *_values(), *_members(), *_relations()]


def _groups() -> Iterator[Rule]:
    """Yield the rules of steps about groups and about two answers."""
    rules: list[Rule] = [
        (rf"Which \w+ are in both {X} and {Y}\?", StepOperations.both),
        (rf"Which \w+ are in {X} or {Y}\?", StepOperations.either),
        (rf"How many \w+ are in {GROUPS} for each of {X}\?", StepOperations.counts),
        (rf"How many \w+ are in {X}\?", StepOperations.count),
        (rf"Which of {X} has the highest number in {Y}\?", bind(StepOperations.extreme, True)),
        (rf"Which of {X} has the lowest number in {Y}\?", bind(StepOperations.extreme, False)),
        (rf"What is the difference between {X} and {Y}\?", StepOperations.difference),
        (rf"Is {X} greater than {Y}\?", bind(StepOperations.exceeds, True)),
        (rf"Is {X} less than {Y}\?", bind(StepOperations.exceeds, False)),
        (rf"Are {X} and {Y} the same\?", StepOperations.same),
    ]
    yield from rules


def _comparisons() -> Iterator[Rule]:
    """Yield the rules of comparisons."""
    pair = rf"(?P<x>.+) \({M}\) or (?P<y>.+) \({N}\)"
    for comparative, more in [
        *[("is larger", True), ("has more people", True), ("is longer", True), ("has more employees", True)],
        *[("is smaller", False), ("has fewer people", False), ("is shorter", False), ("has fewer employees", False)],
        *[(f"was {verb} later", True) for verb in ("born", "founded", "released", "published")],
        *[(f"was {verb} earlier", False) for verb in ("born", "founded", "released", "published")],
        *[("has more pages", True), ("has fewer pages", False)],
    ]:
        yield rf"Wh(?:o|ich) {comparative}, {pair}\?", bind(StepOperations.larger, more)


def _filters() -> Iterator[Rule]:
    """Yield the rules of conditions."""
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
        yield rf"Which of {X} {above.format(NUMBER)}\?", kept(attribute, True)
        yield rf"Which of {X} {below.format(NUMBER)}\?", kept(attribute, False)


def _values() -> Iterator[Rule]:
    """Yield the rules of numbers."""
    for attribute, asked in [
        ("area", "How many square kilometres does {} cover"),
        ("population", "How many people live in {}"),
        ("length", "How many kilometres long is {}"),
        ("minutes", "How many minutes long is {}"),
        ("staff", "How many employees does {} have"),
        ("pages", "How many pages does {} have"),
        *[(verb, f"In which year was {{}} {verb}") for verb in ("born", "founded", "released", "published")],
    ]:
        yield asked.format(f"each of {X}") + r"\?", bind(StepOperations.values, attribute)
        yield asked.format(NAME) + r"\?", bind(StepOperations.value, attribute)


def _members() -> Iterator[Rule]:
    """Yield the rules of groups that belong to an entity."""
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
        yield asked.format(f"each of {X}") + r"\?", bind(StepOperations.members_of_each, relation, kind)
        yield asked.format(NAME) + r"\?", bind(StepOperations.members, relation, kind)


def _relations() -> Iterator[Rule]:
    """Yield the rules of one entity that belongs to another."""
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
        yield asked.format(NAME) + r"\?", bind(StepOperations.follow, relation)
