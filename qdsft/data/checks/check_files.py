"""Find all problems of data files in one pass: what training would refuse, and what is odd.

The code that training uses finds the errors: `readers.scan`, `validation.faults` and `task.Task`. Rows are streamed;
only hashes of their questions and answers are kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from qdsft.console import say
from qdsft.data.checks import lint
from qdsft.data.checks.near_duplicates import THRESHOLD, HeldOut, Match
from qdsft.data.checks.problems import CheckedRow, Problem, Tally
from qdsft.data.examples import Example
from qdsft.data.readers import scan
from qdsft.data.record import Record, RowError, Scanned
from qdsft.data.sources import data_files, is_hub_id
from qdsft.data.task import DecompositionTask, Task, make_task
from qdsft.data.text import normalise
from qdsft.data.validation import faults
from qdsft.errors import UserError
from qdsft.recipe import Recipe

REPORT_EVERY = 1000
"""Rows between two looks at the clock."""


@dataclass(frozen=True)
class Inputs:
    """The files to check and how to read them."""

    train: tuple[Path, ...]
    eval: Path | None = None
    """Held-out rows: checked like the others, and compared with them."""
    recipe: Recipe | None = None
    """Gives the prompt section and training.max_length. Without it, rows are decompositions of any length."""
    read: Callable[[Path], Scanned] = scan
    """Yields the rows of a file; the `read` of one of `formats.READERS`."""


def recipe_inputs(recipe: Recipe, held_out: Path | None, read: Callable[[Path], Scanned], tally: Tally) -> Inputs:
    """Return the files in data.train and data.eval of a recipe; `held_out` replaces data.eval.

    Raises UserError if data.train is not a file, or data.eval is a file that does not exist.
    """
    for name in filter(is_hub_id, recipe.data.train_paths):
        where = recipe.where("data.train")
        raise UserError(f"{where}: data.train: {name} is on the Hub; name a FILE to check instead")
    if held_out is None and recipe.data.eval:
        if is_hub_id(recipe.data.eval):
            tally.notes.append(f"data.eval was not checked: {recipe.data.eval} is on the Hub")
        else:
            [held_out] = data_files(recipe, "eval")
    return Inputs(tuple(data_files(recipe, "train")), held_out, recipe, read)


def check_files(
    inputs: Inputs, tally: Tally, on_row: Callable[[CheckedRow], None] = lambda row: None, *, lengths: bool = True
) -> Iterator[Problem]:
    """Yield every problem of every file, held-out rows first, and count into `tally`.

    `on_row` is called with each row of `inputs.train`, usable or not. A file that cannot be read is a problem, too.
    Tokens are counted if `lengths` is true, and the recipe's tokenizer is on this machine.
    Raises UserError only for a prompt section that cannot be compiled.
    """
    inspect = _inspector(inputs.recipe, tally, lengths=lengths)
    checks = RowChecks(tally, compare=inputs.eval is not None)
    if inputs.eval is not None:
        tally.notes.append(
            f"near-duplicates of {inputs.eval}: Jaccard similarity of at least {THRESHOLD} between the character "
            "trigrams of the questions, regardless of case, width and spaces"
        )
        for row in _rows(inputs.eval, inputs.read, inspect, tally):
            yield from checks.add("eval", row)
    for path in inputs.train:
        for row in _rows(path, inputs.read, inspect, tally):
            on_row(row)
            yield from checks.add("train", row)


class RowChecks:
    """Compare rows with the rows before them and with the held-out rows, and count their problems."""

    def __init__(self, tally: Tally, *, compare: bool) -> None:
        self._tally = tally
        self._held_out = HeldOut() if compare else None
        self._repeats = {side: lint.Repeats() for side in ("train", "eval")}

    def add(self, side: str, row: CheckedRow) -> Sequence[Problem]:
        """Count a row of the side "eval" or "train" and return its problems. All held-out rows come first."""
        if row.usable:
            if found := self._repeats[side].add(row.question, row.answer, row.source):
                row.warn(*found)
            if self._held_out and side == "eval":
                self._held_out.add(row.question, row.source)
            elif self._held_out and (match := self._held_out.match(row.question)):
                row.warn(*_leak(match))
        return self._tally.add(row)


def check_example(example: Example, task: Task) -> CheckedRow:
    """Return a row that `task` accepted, with the warnings about the row by itself."""
    row = CheckedRow(example.record.source, example.record)
    if isinstance(task, DecompositionTask):
        _warn_of_steps(row)
        row.question = normalise(example.question)
    else:
        _warn_of_text(row, example.question, example.completion)
    return row


def _rows(
    path: Path, read: Callable[[Path], Scanned], inspect: Callable[[Record], CheckedRow], tally: Tally
) -> Iterator[CheckedRow]:
    """Yield the rows of one file, each inspected by itself. Print the progress now and then."""
    found, printed, pause = 0, time.monotonic(), 5.0
    try:
        for found, item in enumerate(read(path), start=1):
            if isinstance(item, RowError):
                row = CheckedRow(item.source)
                row.refuse(item)
            else:
                row = inspect(item)
            yield row
            if row.lacks_column:  # and so do all rows of this table
                return
            if not found % REPORT_EVERY and time.monotonic() - printed > pause:
                printed, pause = time.monotonic(), 2 * pause
                say(f"{path}: {found} rows read")
        if not found:
            yield _of_file(path, "no rows", "there are no rows; give a file with at least one")
    except UserError as error:
        yield _of_file(path, "file not read", str(error).removeprefix(f"{path}: "))


def _of_file(path: Path, kind: str, message: str) -> CheckedRow:
    problem = Problem("error", kind, str(path), message)
    return CheckedRow(str(path), problems=[problem], usable=False, is_row=False)


def _inspector(recipe: Recipe | None, tally: Tally, *, lengths: bool) -> Callable[[Record], CheckedRow]:
    """Return a function that checks one row by itself, for the recipe's task and tokenizer."""
    if recipe is None:
        return inspect_decomposition
    task = make_task(recipe)
    is_decomposition = isinstance(task, DecompositionTask)
    count = _token_counter(recipe, tally) if lengths else None

    def inspect(record: Record) -> CheckedRow:
        row = inspect_decomposition(record) if is_decomposition else CheckedRow(record.source, record)
        try:
            texts = [message["content"] for message in task.messages(record)]
            needs_answer = row.usable and (count is not None or not is_decomposition)
            answer = task.completion(record) if needs_answer else ""
        except RowError as error:
            if row.usable:  # else `faults` has reported it
                row.refuse(error)
            return row
        if is_decomposition:
            row.question = normalise(texts[-1])
        else:
            _warn_of_text(row, texts[-1], answer)
        if count is not None and row.usable:
            row.warn("too long", _too_long(count([*texts, answer]), recipe))
        return row

    return inspect


def inspect_decomposition(record: Record) -> CheckedRow:
    """Return a row with everything that makes it unusable or looks odd, by itself."""
    row = CheckedRow(record.source, record)
    for error in faults(record):
        row.refuse(error)
    _warn_of_steps(row)
    return row


def _warn_of_steps(row: CheckedRow) -> None:
    columns = row.record.row if row.record else {}
    question, steps = columns.get("question"), columns.get("sub_questions")
    if isinstance(question, str) and isinstance(steps, list) and all(isinstance(step, str) for step in steps):
        texts = lint.Texts.of(question, steps)
        row.question, row.answer = texts.normal_question, "\n".join(texts.normal_steps)
        for kind, check in lint.CHECKS.items():
            if message := check(texts):
                row.warn(kind, message)


def _warn_of_text(row: CheckedRow, user: str, answer: str) -> None:
    row.question, row.answer = normalise(user), normalise(answer)
    row.warn("lost character", lint.lost_character(lint.Texts(user, [answer], "", [], f"{user}\n{answer}")))


def _leak(match: Match) -> tuple[str, str]:
    """Return kind and message for a training question that is also held out."""
    if match.same:
        return "question is held out", f"{match.source} has the same question; training leaves this row out"
    message = f"{match.source} asks nearly the same (similarity {match.similarity:.2f}); remove one of them"
    return "nearly held out", message


def _too_long(tokens: int, recipe: Recipe) -> str | None:
    if recipe.max_length is None or tokens <= recipe.max_length:
        return None
    effect = {"error": "training stops here", "drop": "training drops it", "truncate": "training shortens it"}
    message = f"{tokens} tokens, more than training.max_length {recipe.max_length}: {effect[recipe.data.overlength]} "
    return f"{message}(data.overlength); shorten the row or raise training.max_length"


def _token_counter(recipe: Recipe, tally: Tally) -> Callable[[Iterable[str]], int] | None:
    """Return a function that counts the tokens of texts, or None if there is no limit or no local tokenizer.

    Only the tokenizer file of a local model folder is read. A note in `tally` says what is counted.
    """
    limit, path = recipe.max_length, Path(recipe.model.name_or_path) / "tokenizer.json"
    if limit is None:
        tally.notes.append("lengths were not checked: training.max_length is null")
        return None
    if not path.is_file():
        tally.notes.append(f"lengths were not checked: there is no {path} on this machine")
        return None
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing narrower
        tally.notes.append(f"lengths were not checked: {path} cannot be read: {error}")
        return None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tally.notes.append(f"lengths are without the chat template, which adds some tokens; the limit is {limit}")

    def count(texts: Iterable[str]) -> int:
        return sum(len(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts)

    return count
