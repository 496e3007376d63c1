"""Write self-ask prompts (Press et al. 2022)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from qdsft.data.formats.format import Format, Item, Writer, json_line, one_line
from qdsft.data.references import has_hangul


def _text(item: Item) -> str:
    answers = _known_answers(item.columns, item.steps) or [None] * len(item.steps)
    unknown = "[answer {}]" if item.self_contained else "#{}"
    lines = [f"Question: {one_line(item.question)}", "Are follow up questions needed here: Yes."]
    for number, (step, answer) in enumerate(zip(item.steps, answers, strict=True), start=1):
        lines += [f"Follow up: {step}", f"Intermediate answer: {answer or unknown.format(number)}"]
    final = _spoken(item.columns.get("answer"), item.question) or answers[-1] or unknown.format(len(item.steps))
    return "\n".join([*lines, f"So the final answer is: {final}"])


def _known_answers(columns: Mapping[str, Any], steps: Sequence[str]) -> Sequence[str | None]:
    given = columns.get("step_answers")
    if not isinstance(given, list) or len(given) != len(steps):
        return ()
    return [_spoken(answer, step) for answer, step in zip(given, steps, strict=True)]


def _spoken(answer: Any, question: str) -> str | None:
    if isinstance(answer, bool):
        yes, no = ("예", "아니요") if has_hangul(question) else ("Yes", "No")
        return yes if answer else no
    return one_line(str(answer)) or None if isinstance(answer, str | int | float) else None


def _entry(item: Item, text: str) -> str:
    return json_line({"question": item.question, "text": text}, {}) + "\n"


def _keep(columns: Collection[str]) -> Collection[str]:
    return {"answer", "step_answers"}


FORMAT = Format(
    "self-ask",
    writer=Writer(
        _text,
        holds="JSON Lines: `question` and `text`, the prompt of [Press et al. 2022](https://github.com/ofirpress/self-ask)",
        columns="`answer` and `step_answers`",
        loses="step numbers: a reader of self-ask has to count the follow-ups to resolve `#n`",
        entry=_entry,
        keep=_keep,
        known_answers=_known_answers,
    ),
)
