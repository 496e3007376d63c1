"""All problems of data files in one pass: what training would refuse, and what is odd.

The errors are those of training itself: `readers.scan`, `data.faults` and `task.Task` find them.
Rows stream by; what is kept of each is a hash of its question and of its answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from qdsft.console import say
from qdsft.data.checks import lint
from qdsft.data.checks.near_duplicates import THRESHOLD, HeldOut
from qdsft.data.checks.problems import Problem, Row, Tally
from qdsft.data.checks.token_count import token_counter
from qdsft.data.readers import scan
from qdsft.data.record import Record, RowError, Scanned
from qdsft.data.sources import data_file, is_hub_id
from qdsft.data.task import DecompositionTask, make_task
from qdsft.data.text import normalise
from qdsft.data.validation import faults
from qdsft.errors import UserError
from qdsft.recipe import Recipe

REPORT_EVERY = 1000
"""Rows between two looks at the clock."""


@dataclass(frozen=True)
class Inputs:
    """What is checked."""

    train: tuple[Path, ...]
    eval: Path | None = None
    """Held-out rows: checked like the others, and the others are compared with them."""
    recipe: Recipe | None = None
    """Gives the prompt section and training.max_length; without one rows are decompositions of any length."""
    read: Callable[[Path], Scanned] = scan
    """Gives the rows of a file; one of `formats.READERS` for another project's format."""


def recipe_inputs(recipe: Recipe, held_out: Path | None, read: Callable[[Path], Scanned], tally: Tally) -> Inputs:
    """The files in data.train and data.eval of a recipe; `held_out` goes before data.eval.

    Raises UserError if data.train is no file, or data.eval names a file that is not there.
    """
    if is_hub_id(recipe.data.train):
        where = recipe.where("data.train")
        raise UserError(f"{where}: data.train: {recipe.data.train} lies on the Hub; name a FILE to check instead")
    if held_out is None and recipe.data.eval:
        if is_hub_id(recipe.data.eval):
            tally.notes.append(f"data.eval was not checked: {recipe.data.eval} lies on the Hub")
        else:
            held_out = data_file(recipe, "eval")
    return Inputs((data_file(recipe, "train"),), held_out, recipe, read)


def check_files(inputs: Inputs, tally: Tally, see: Callable[[Row], None] | None = None) -> Iterator[Problem]:
    """Every problem of every file, held-out rows first; counts into `tally`.

    `see` is called with each row of `inputs.train`, usable or not. A file that cannot be read is one more problem.
    Raises UserError only for a prompt section that cannot be compiled.
    """
    inspect = _inspector(inputs.recipe, tally)
    held_out = None
    if inputs.eval is not None:
        held_out = HeldOut()
        tally.notes.append(
            f"near-duplicates of {inputs.eval}: Jaccard similarity of at least {THRESHOLD} between the character "
            "trigrams of the questions, without regard to case, width and spaces"
        )
        for row in _with_repeats(_rows(inputs.eval, inputs.read, inspect, tally)):
            if row.usable:
                held_out.add(row.question, row.source)
            yield from tally.add(row)
    stream = _with_repeats(row for path in inputs.train for row in _rows(path, inputs.read, inspect, tally))
    for row in _with_leaks(stream, held_out) if held_out else stream:
        if see is not None:
            see(row)
        yield from tally.add(row)


def _rows(path: Path, read: Callable[[Path], Scanned], inspect: Callable[[Record], Row], tally: Tally) -> Iterator[Row]:
    """The rows of one file, each inspected by itself; says now and then how far it is."""
    found, said, pause = 0, time.monotonic(), 5.0
    try:
        for found, item in enumerate(read(path), start=1):
            if isinstance(item, RowError):
                row = Row(item.source)
                row.refuse(item)
            else:
                row = inspect(item)
            yield row
            if not found % REPORT_EVERY and time.monotonic() - said > pause:
                said, pause = time.monotonic(), 2 * pause
                say(f"{path}: {found} rows read")
        if not found:
            yield _of_file(path, "no rows", "there are no rows; give a file with at least one")
    except UserError as error:
        yield _of_file(path, "file not read", str(error).removeprefix(f"{path}: "))


def _of_file(path: Path, kind: str, message: str) -> Row:
    problem = Problem("error", kind, str(path), message)
    return Row(str(path), problems=[problem], usable=False, is_row=False)


def _inspector(recipe: Recipe | None, tally: Tally) -> Callable[[Record], Row]:
    """What looks at one row alone, as the recipe's task and tokenizer need it."""
    if recipe is None:
        return _inspect_decomposition
    task = make_task(recipe)
    has_steps = isinstance(task, DecompositionTask)
    count, note = token_counter(recipe)
    tally.notes.append(note)

    def inspect(record: Record) -> Row:
        row = _inspect_decomposition(record) if has_steps else Row(record.source, record)
        try:
            texts = [message["content"] for message in task.messages(record)]
            answer = task.completion(record) if row.usable else ""
        except RowError as error:
            if row.usable:  # else it is what `faults` has named already
                row.refuse(error)
            return row
        row.question = normalise(texts[-1])
        if not has_steps:
            row.answer = normalise(answer)
            row.warn("lost character", lint.lost_character(lint.Texts.of(texts[-1], [answer])))
        if count is not None and row.usable:
            row.warn("too long", _too_long(count([*texts, answer]), recipe))
        return row

    return inspect


def _inspect_decomposition(record: Record) -> Row:
    row = Row(record.source, record)
    for error in faults(record):
        row.refuse(error)
    question, steps = record.row.get("question"), record.row.get("sub_questions")
    if isinstance(question, str) and isinstance(steps, list) and all(isinstance(step, str) for step in steps):
        texts = lint.Texts.of(question, steps)
        row.question, row.answer = texts.normal_question, "\n".join(texts.normal_steps)
        for kind, check in lint.CHECKS.items():
            if message := check(texts):
                row.warn(kind, message)
    return row


def _with_repeats(rows: Iterable[Row]) -> Iterator[Row]:
    repeats = lint.Repeats()
    for row in rows:
        if row.usable and (found := repeats.add(row.question, row.answer, row.source)):
            row.warn(*found)
        yield row


def _with_leaks(rows: Iterable[Row], held_out: HeldOut) -> Iterator[Row]:
    for row in rows:
        match = held_out.match(row.question) if row.usable else None
        if match and match.same:
            row.warn("question is held out", f"{match.source} has the same question; training leaves this row out")
        elif match:
            message = f"{match.source} asks nearly the same (similarity {match.similarity:.2f}); remove one of them"
            row.warn("nearly held out", message)
        yield row


def _too_long(tokens: int, recipe: Recipe) -> str | None:
    if recipe.max_length is None or tokens <= recipe.max_length:
        return None
    effect = {"error": "training stops here", "drop": "training drops it", "truncate": "training shortens it"}
    message = f"{tokens} tokens, more than training.max_length {recipe.max_length}: {effect[recipe.data.overlength]} "
    return f"{message}(data.overlength); shorten the row or raise training.max_length"
