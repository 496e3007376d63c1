"""Stage: a question in, its sub-questions out, with the prompt that the run was trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qdsft.answers.answer_formats import check_format, show_answer
from qdsft.decomposition import Decomposition
from qdsft.errors import UserError
from qdsft.inference import load_run
from qdsft.record import Record


class Decomposer:
    """A finished run, ready to answer.

    >>> decompose = Decomposer("outputs/tiny-full")        # doctest: +SKIP
    >>> decompose("Who is older, A or B?").steps           # doctest: +SKIP
    ('How old is A?', 'How old is B?', 'Is #1 more than #2?')

    With `constrained=True` every answer is a valid decomposition, as `qdsft.constrained` has it.
    Raises UserError as `qdsft.inference.load_run` and `LoadedRun.grammar` do.
    """

    def __init__(self, run_dir: str | Path, *, constrained: bool = False) -> None:
        self.run = load_run(Path(run_dir))
        self._constrained = constrained
        if constrained:
            self.run.grammar  # noqa: B018 - fails now rather than at the first question

    def __call__(self, question: str) -> Decomposition:
        """Decompose one question; raises UserError for empty or unusable text."""
        return Decomposition.parse(self.text(question))

    def text(self, question: str) -> str:
        """The model's answer as it wrote it; for runs of other tasks too."""
        messages = self.run.writer.messages(self._record(question))
        return self.run.answer([messages], constrained=self._constrained)[0].text

    def _record(self, question: str) -> Record:
        """A row for the prompt: the question itself, or a JSON object where the prompt has several columns.

        So can a single column be given whose value is no text, such as the turns of a dialogue.
        """
        try:
            question.encode("utf-8")
        except UnicodeEncodeError as error:
            raise UserError("the question is not UTF-8; check the terminal's encoding") from error
        columns = self.run.writer.columns
        row = None if self.run.writer.is_decomposition else _json_object(question)
        if len(columns) == 1 and columns[0] not in (row or {}):
            return Record({columns[0]: question.strip()}, "the question")
        if row is None:
            raise UserError(f"this run's prompt has the columns {', '.join(columns)}; give a JSON object with them")
        return Record(row, "the question")


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def show(decomposer: Decomposer, question: str, fmt: str) -> tuple[str, str | None]:
    """(text for standard output, warning or None) for one question; raises UserError as `show_answer` does."""
    is_decomposition = decomposer.run.writer.is_decomposition
    check_format(fmt, decomposition=is_decomposition)
    return show_answer(fmt, question, decomposer.text(question), decomposition=is_decomposition)
