"""Synthetic questions with decompositions that are right by construction, in English and Korean.

A question is a program over a small fictional world, put into words. Its steps are the operations of the program, each
in its only wording. `world` holds the facts, `programs` the operations, `answers` evaluates them, `sample` numbers all
programs, `steps` orders their operations, `english` and `korean` put them into words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import zip_longest
from typing import Any, Literal, get_args

from qdsft.data.synth.answers import Answer, evaluate
from qdsft.data.synth.english import English
from qdsft.data.synth.form import Form
from qdsft.data.synth.korean import Korean
from qdsft.data.synth.permutation import Permutation
from qdsft.data.synth.programs import Node, named, operations
from qdsft.data.synth.sample import forms, single_hop_forms
from qdsft.data.synth.steps import plan
from qdsft.data.synth.world import World, load_world
from qdsft.errors import UserError

Entities = Literal["all", "seen", "unseen"]
"""Which entities questions name. seen: none of those that are held out; unseen: at least one of them."""
LANGUAGES: dict[str, type[English] | type[Korean]] = {"en": English, "ko": Korean}


def generate(
    language: str,
    rows: int,
    seed: int,
    max_steps: int | None = None,
    min_steps: int = 1,
    entities: Entities = "all",
) -> Iterator[dict[str, Any]]:
    """Return rows with `question`, `sub_questions`, `operations`, `language` and `answer`, without repeated questions.

    The answer is the name of an entity, a number, a boolean, a list of names, or an object of name -> count. The rows
    depend only on the arguments, and the first rows do not depend on `rows`. The shapes of program take turns, so each
    is equally frequent until it is used up. With `max_steps`, questions with more steps are left out; with 1 the rows
    are single-hop questions, which are one step already and never made otherwise. `min_steps` leaves out shorter ones.

    `entities` chooses which entities questions name: `seen` for training leaves out those of `World.held_out`, and
    `unseen` takes the questions that name at least one of them.

    Raises UserError at once for an unknown language or value of `entities`, `rows`, `max_steps` or `min_steps` below
    1, `min_steps` above `max_steps`, and more rows than there are questions; at the end, if there are too few of them
    with so many steps.
    """
    if language not in LANGUAGES:
        raise UserError(f"there is no language {language!r}; choose one of: {', '.join(LANGUAGES)}")
    if rows < 1:
        raise UserError(f"rows is {rows}; ask for at least 1")
    world, shapes = _space()
    available = sum(len(form) for form in shapes.values())
    if rows > available:
        raise UserError(
            f"rows is {rows}, but there are only {available} distinct questions in {language}; ask for fewer"
        )
    for name, value in (("max_steps", max_steps), ("min_steps", min_steps)):
        if value is not None and value < 1:
            raise UserError(f"{name} is {value}; ask for at least 1")
    if entities not in get_args(Entities):
        raise UserError(f"entities is {entities!r}; choose one of: {', '.join(get_args(Entities))}")
    if max_steps is None and min_steps == 1 and entities == "all":
        return _rows(language, rows, seed, world, shapes)
    if max_steps is not None and min_steps > max_steps:
        raise UserError(f"min_steps is {min_steps} and max_steps {max_steps}; ask for no fewer than min_steps")
    if max_steps == 1:
        shapes = single_hop_forms(world)
        every = _rows(language, sum(len(form) for form in shapes.values()), seed, world, shapes, entities)
        return _between(_distinct(every), rows, 1, 1)
    return _between(_rows(language, available, seed, world, shapes, entities), rows, min_steps, max_steps)


def _between(
    stream: Iterator[dict[str, Any]], rows: int, min_steps: int, max_steps: int | None
) -> Iterator[dict[str, Any]]:
    found = 0
    for row in stream:
        steps = len(row["sub_questions"])
        if steps >= min_steps and (max_steps is None or steps <= max_steps):
            yield row
            found += 1
            if found == rows:
                return
    depth = f"at least {min_steps}" if max_steps is None else f"{min_steps} to {max_steps}"
    raise UserError(f"rows is {rows}, but only {found} questions have {depth} steps; ask for fewer")


def _distinct(stream: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    seen: set[str] = set()
    for row in stream:
        if row["question"] not in seen:
            seen.add(row["question"])
            yield row


def generate_mixed(
    languages: Sequence[str],
    rows: int,
    seed: int,
    max_steps: int | None = None,
    min_steps: int = 1,
    entities: Entities = "all",
) -> Iterator[dict[str, Any]]:
    """Return `rows` rows, of several languages in turn. Raises UserError as `generate`, and for a repeated language."""
    if len(set(languages)) < len(languages):
        raise UserError(f"a language is given twice: {','.join(languages)}; give each once")
    share, rest = divmod(rows, len(languages))
    counts = [share + (place < rest) for place in range(len(languages))]
    streams = [
        generate(language, count, seed, max_steps, min_steps, entities)
        for language, count in zip(languages, counts, strict=True)
    ]
    return (row for turn in zip_longest(*streams) for row in turn if row is not None)


@cache
def _space() -> tuple[World, dict[str, Form]]:
    world = load_world()
    return world, forms(world)


def _rows(
    language: str, rows: int, seed: int, world: World, shapes: dict[str, Form], entities: Entities = "all"
) -> Iterator[dict[str, Any]]:
    words = LANGUAGES[language](world)
    held_out = world.held_out()
    for program, frame, style in _draw(rows, f"{seed}/{language}", shapes):
        if entities != "all" and named(program).isdisjoint(held_out) != (entities == "seen"):
            continue
        yield {
            "question": words.question(program, frame, style),
            "sub_questions": [words.step(step) for step in plan(program, world)],
            "operations": operations(program),
            "language": language,
            "answer": _answer(evaluate(program, world), words.name),
        }


def _draw(rows: int, key: str, shapes: dict[str, Form]) -> Iterator[tuple[Node, int, int]]:
    """Yield (program, frame, style): the shapes in turn, in a different order in every round."""
    orders = {name: Permutation(len(form), f"{key}/{name}") for name, form in shapes.items()}
    turn = 0
    while rows > 0:
        active = [name for name, order in orders.items() if turn < order.size]
        places = Permutation(len(active), f"{key}/{turn}")
        for name in [active[places[place]] for place in range(min(len(active), rows))]:
            yield shapes[name][orders[name][turn]]
            rows -= 1
        turn += 1


def _answer(answer: Answer, name: Callable[[str], str]) -> Any:
    """Return an answer for JSON, with names in the language of the question."""
    match answer:
        case str():
            return name(answer)
        case tuple():
            return [name(one) for one in answer]
        case dict():
            return {name(one): number for one, number in answer.items()}
    return answer
