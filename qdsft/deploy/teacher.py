"""What is asked of a teacher, and which of its answers becomes a row. Nothing that a teacher writes is trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from qdsft.data.checks.check_files import inspect_decomposition
from qdsft.data.checks.near_duplicates import trigrams
from qdsft.data.decomposition import Decomposition
from qdsft.data.prompt import TEACHER, Message
from qdsft.data.record import Record, RowError
from qdsft.data.text import normalise
from qdsft.errors import cut
from qdsft.hashing import text_sha256
from qdsft.metrics.alignment import align, step_f1
from qdsft.scoring.improvement import OF_THE_STEPS, PROVENANCE

LEAST_SHARED = 0.1
"""Share of the question's character trigrams that the steps must have. Fewer than 1 % of the gold rows of BREAK and
StrategyQA have less, and over half of the steps of another question."""
THOUGHTS_END = "</think>"
"""What models write between their thoughts and the answer, where a server does not divide them."""


@dataclass(frozen=True)
class Teacher:
    """Everything that a teacher's answers to a question depend on."""

    model: str
    """The server's name of the model."""
    prompt: str = TEACHER
    """The user message, as Jinja over the columns of a row."""
    samples: int = 4
    """Answers to each question, at least 2."""
    temperature: float = 0.7
    max_tokens: int = 512
    """Longest answer, in tokens."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Other fields of the request; None leaves a field out."""

    def body(self, messages: Sequence[Message]) -> dict[str, Any]:
        """Return the request for one answer."""
        fields = {"model": self.model, "messages": list(messages), "max_tokens": self.max_tokens}
        fields |= {"temperature": self.temperature, **self.extra}
        return {name: value for name, value in fields.items() if value is not None}


@dataclass(frozen=True)
class Sample:
    """One answer, or the reason why there is none."""

    text: str | None
    problem: str = ""
    stopped: bool | None = None
    """False if it was cut off at the length limit."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


def choose(record: Record, samples: Sequence[Sample], teacher: Teacher, least: float) -> dict[str, Any] | RowError:
    """Return the row with the answer that agrees most with the others, or the reason why none is used.

    The agreement of an answer is the mean step F1 against each of the others, where an unusable one counts as 0. Of
    equal answers the first with the fewest steps is taken.
    """
    found: list[tuple[str, ...]] = []
    problems: list[str] = []
    for sample in samples:
        steps = usable_steps(record, sample)
        if isinstance(steps, RowError):
            problems.append(steps.message)
        else:
            found.append(steps)
    if not found:
        return RowError(record.source, "no usable answer", f"none of {len(samples)} answers is usable; {problems[0]}")
    unusable = [0.0] * len(problems)
    agreements = [
        fmean([*(_agreement(one, other) for j, other in enumerate(found) if j != i), *unusable])
        for i, one in enumerate(found)
    ]
    best = max(range(len(found)), key=lambda i: (round(agreements[i], 9), -len(found[i]), -i))
    if agreements[best] < least:
        message = f"{len(found)} of {len(samples)} answers are usable and their agreement is {agreements[best]:.2f}, "
        return RowError(record.source, "low agreement", f"{message}less than {least:g}")
    kept = {name: value for name, value in record.row.items() if name not in OF_THE_STEPS}
    origin = {"model": teacher.model, "prompt": text_sha256(teacher.prompt)[:16], "answers": len(samples)}
    origin |= {"usable": len(found), "agreement": round(agreements[best], 4)}
    return {**kept, "sub_questions": list(found[best]), PROVENANCE: origin}


def usable_steps(record: Record, sample: Sample) -> tuple[str, ...] | RowError:
    """Return the steps of an answer, or the first fault: any error or warning of `qdsft data check`, and more."""

    def fault(message: str) -> RowError:
        return RowError(record.source, "unusable answer", message)

    question = record.row["question"]
    if sample.text is None:
        return fault(sample.problem)
    if sample.stopped is False:
        return fault("the answer is cut off at the length limit; raise --max-tokens")
    found = Decomposition.parse(sample.text.rpartition(THOUGHTS_END)[2])
    if found.format_problems:
        return fault(found.format_problems[0])
    row = {"question": question, "sub_questions": list(found.steps)}
    for problem in inspect_decomposition(Record(row, record.source)).problems:
        return fault(problem.message)
    hidden = {one for step in found.steps for one in step if not one.isprintable()} - set(question)
    if hidden:
        return fault(f"a step has the invisible character U+{ord(min(hidden)):04X}")
    asked = trigrams(normalise(question))
    told = set[str]().union(*(trigrams(normalise(step)) for step in found.steps))
    if len(asked & told) < LEAST_SHARED * len(asked):
        return fault(f"the steps share no words with the question: {cut(found.steps[0])}")
    return found.steps


def _agreement(one: Sequence[str], other: Sequence[str]) -> float:
    return step_f1(one, other, align(one, other))
