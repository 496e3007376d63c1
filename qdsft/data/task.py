"""The task of a recipe: how its rows are rendered, and how answers are parsed, paired with gold and shown.

A recipe trains decompositions unless it has a prompt.completion, which makes its answers free text. The metrics of
both are in `qdsft.metrics.catalog`.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from qdsft.data.decomposition import Decomposition, numbered
from qdsft.data.examples import Example
from qdsft.data.formats import ANSWER_FORMATS
from qdsft.data.formats.write import entry, make_item, render_as
from qdsft.data.prediction import PredictedSteps, PredictedText, Prediction
from qdsft.data.prompt import SYSTEM, USER, Message, PromptTemplates, TemplateFault
from qdsft.data.record import Record, RowError, checked, row_json
from qdsft.data.validation import question_faults, validate
from qdsft.errors import UserError
from qdsft.recipe import Recipe
from qdsft.recipe.sections import Prompt


@dataclass(frozen=True)
class Shown:
    """An answer for standard output, and what is wrong with it."""

    text: str
    warning: str | None = None


class Task(ABC):
    """What a recipe trains a model to answer."""

    name: ClassVar[str]
    formats: ClassVar[tuple[str, ...]]
    """The formats that answers can be written in."""

    def __init__(self, templates: PromptTemplates) -> None:
        self._templates = templates

    @property
    def columns(self) -> list[str]:
        """The columns that a prompt reads."""
        return self._templates.columns

    @property
    def text_column(self) -> str | None:
        """The column that a line of a .txt file fills; None if the prompt cannot be made from one line."""
        return self.columns[0] if len(self.columns) == 1 else None

    def messages(self, record: Record) -> list[Message]:
        """Return the chat messages before the answer; raises RowError."""
        return self._templates.messages(record)

    @abstractmethod
    def completion(self, record: Record) -> str:
        """Return the answer to learn; raises RowError."""

    def example(self, record: Record) -> Example:
        """Return the rendered row; raises RowError if it cannot be trained on."""
        completion = self.completion(record)  # first, because it validates the whole row of a decomposition
        return Example(record, tuple(self.messages(record)), completion)

    def typed_record(self, question: str) -> Record:
        """Return the row of a typed question: the question itself, or a JSON object if the prompt has several columns.

        Raises UserError for a question that is not UTF-8 and for one that is neither.
        """
        try:
            question.encode("utf-8")
        except UnicodeEncodeError as error:
            raise UserError("the question is not UTF-8; check the terminal's encoding") from error
        row = self._typed_row(question)
        if row is None:
            raise UserError(
                f"this run's prompt has the columns {', '.join(self.columns)}; give a JSON object with them"
            )
        return Record(row, "the question")

    def _typed_row(self, question: str) -> dict[str, Any] | None:
        return {self.columns[0]: question.strip()} if len(self.columns) == 1 else _json_object(question)

    def question_faults(self, record: Record) -> Iterable[RowError]:
        """Return the faults that make a row unusable as a question; its answer is not looked at."""
        return ()

    @abstractmethod
    def parse(self, text: str) -> Decomposition | str:
        """Return a model's text as an answer; never raises."""

    def problems(self, text: str) -> tuple[str, ...]:
        """Return the problems of an answer that show without the gold answer."""
        return ()

    @abstractmethod
    def predict(self, example: Example, text: str, stopped: bool) -> Prediction:
        """Return a model's text for a held-out example, paired with the gold answer."""

    def check_format(self, fmt: str) -> None:
        """Raise UserError if answers of this task have no such format."""
        if fmt not in self.formats:
            raise UserError(
                f"--format {fmt} writes decompositions, and this run has its own prompt.completion; use "
                f"{' or '.join(self.formats)}"
            )

    @abstractmethod
    def require_decompositions(self, option: str, source: object) -> None:
        """Raise UserError, naming `source`, if an option for decompositions does not apply to this task."""

    @abstractmethod
    def show(self, fmt: str, question: str, text: str) -> Shown:
        """Return the answer to one question for standard output.

        Raises UserError for an invalid decomposition in a format that requires a valid one.
        """

    @abstractmethod
    def file_entry(self, fmt: str, row: dict[str, Any], text: str, *, stopped: bool) -> str:
        """Return the answer to a row as an entry of a file, final newline included; raises UserError as `show`."""

    @abstractmethod
    def dropped_columns(self, fmt: str, row: dict[str, Any]) -> set[str]:
        """Return the columns of a row whose values `file_entry` leaves out."""


class DecompositionTask(Task):
    """Split a question into sub-questions; rows have `question` and `sub_questions`."""

    name = "decomposition"
    formats = ("json", "text", *ANSWER_FORMATS)
    """All but json and text require a valid decomposition."""

    def __init__(self, prompt: Prompt) -> None:
        system = SYSTEM if prompt.system is None else prompt.system
        super().__init__(PromptTemplates(system, USER if prompt.user is None else prompt.user, ""))

    @property
    def text_column(self) -> str | None:
        return "question" if self.columns == ["question"] else None

    def completion(self, record: Record) -> str:
        validate(record)
        return numbered(record.row["sub_questions"])

    def question_faults(self, record: Record) -> Iterator[RowError]:
        return question_faults(record)

    def parse(self, text: str) -> Decomposition:
        return Decomposition.parse(text)

    def problems(self, text: str) -> tuple[str, ...]:
        return self.parse(text).problems()

    def predict(self, example: Example, text: str, stopped: bool) -> PredictedSteps:
        row = example.record.row
        return PredictedSteps.parse(row["question"], row["sub_questions"], text, stopped, row)

    def require_decompositions(self, option: str, source: object) -> None:
        """Accept the option."""

    def show(self, fmt: str, question: str, text: str) -> Shown:
        """Return the answer to one question. The format json has the keys question, sub_questions and valid."""
        found = self.parse(text)
        problems = found.problems()
        warning = f"not a valid decomposition: {'; '.join(problems)}" if problems else None
        if fmt == "json":
            return Shown(row_json({"question": question, "sub_questions": found.steps, "valid": not problems}), warning)
        return Shown(found.render() if fmt == "text" else render_as(fmt, question, found), warning)

    def file_entry(self, fmt: str, row: dict[str, Any], text: str, *, stopped: bool) -> str:
        """Return the answer to a row as an entry of a file.

        The format json has the keys question, sub_questions, problems, text and stopped, and the row's other columns.
        The format text is the question, the steps and a blank line.
        """
        question, found = row["question"], self.parse(text)
        problems = found.problems()
        if fmt == "json":
            own = {"question": question, "sub_questions": found.steps, "problems": problems}
            own |= {"text": text, "stopped": stopped}
            return row_json({**own, **{name: value for name, value in row.items() if name not in own}}) + "\n"
        if fmt == "text":
            return f"{' '.join(question.split())}\n{found.render()}\n\n"
        if problems:
            raise UserError(f"{problems[0]}; this has no {fmt} form")
        return entry(fmt, make_item(fmt, question, found))

    def dropped_columns(self, fmt: str, row: dict[str, Any]) -> set[str]:
        if fmt == "json":
            return {"sub_questions", "problems", "text", "stopped"} & row.keys()
        return row.keys() - {"question"}


class FreeTextTask(Task):
    """Answer with the text of prompt.completion; rows have any columns."""

    name = "free text"
    formats = ("json", "text")

    def __init__(self, prompt: Prompt) -> None:
        if prompt.user is None:
            raise UserError(
                "prompt.user is missing: a recipe with its own prompt.completion words its own user message"
            )
        super().__init__(PromptTemplates(prompt.system or "", prompt.user, prompt.completion or ""))

    def completion(self, record: Record) -> str:
        return self._templates.completion(record)

    def _typed_row(self, question: str) -> dict[str, Any] | None:
        # A value that is not text, such as the turns of a dialogue, is typed as JSON even for one column.
        row = _json_object(question)
        return row if row is not None and set(self.columns) & row.keys() else super()._typed_row(question)

    def parse(self, text: str) -> str:
        return text

    def predict(self, example: Example, text: str, stopped: bool) -> PredictedText:
        return PredictedText(example.question, example.completion, text, stopped, example.record.row)

    def require_decompositions(self, option: str, source: object) -> None:
        raise UserError(f"{source}: its answers are free text, and {option} is for decompositions; leave it out")

    def show(self, fmt: str, question: str, text: str) -> Shown:
        """Return the answer to one question. The format json has the keys input and output."""
        return Shown(row_json({"input": question, "output": text}) if fmt == "json" else text)

    def file_entry(self, fmt: str, row: dict[str, Any], text: str, *, stopped: bool) -> str:
        """Return the answer to a row as an entry of a file. The format json adds output and stopped to its columns."""
        return row_json({**row, "output": text, "stopped": stopped}) + "\n" if fmt == "json" else f"{text}\n\n"

    def dropped_columns(self, fmt: str, row: dict[str, Any]) -> set[str]:
        return {"output", "stopped"} & row.keys() if fmt == "json" else set(row)


def make_task(recipe: Recipe) -> Task:
    """Return the task of a recipe; raises UserError, naming file and line, for a template that cannot be compiled."""
    try:
        return task_of(recipe.prompt)
    except TemplateFault as error:
        raise UserError(f"{recipe.where(f'prompt.{error.key}')}: {error}") from error
    except UserError as error:
        raise UserError(f"{recipe.path}: {error}") from error


def task_of(prompt: Prompt) -> Task:
    """Return the task of a prompt section; raises UserError for broken Jinja."""
    return task_type(prompt)(prompt)


def task_type(prompt: Prompt) -> type[DecompositionTask] | type[FreeTextTask]:
    """Return the class of a prompt section's task."""
    return DecompositionTask if prompt.completion is None else FreeTextTask


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and isinstance(checked(value, ""), Record) else None
