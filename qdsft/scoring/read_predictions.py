"""Read the predictions of any system and match them with gold answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qdsft.data.decomposition import Decomposition
from qdsft.data.formats.break_csv import break_steps
from qdsft.data.prediction import PredictedSteps
from qdsft.data.readers import stream_records
from qdsft.data.record import Record, RowError, short_json
from qdsft.data.text import normalise
from qdsft.data.validation import validate
from qdsft.errors import UserError

NAMED = 3
"""Messages name at most this many questions that do not match."""


@dataclass(frozen=True)
class _Answer:
    text: str | None
    decomposition: Decomposition


def read_matched(predictions: Path, gold: Path) -> tuple[list[PredictedSteps], str]:
    """Return the predictions of all gold rows, in gold's order, and how they were matched.

    Gold rows have `question` and `sub_questions`, or are BREAK's `question_text` and `decomposition`. Predictions
    have `sub_questions`, or `text` that holds numbered steps, and may have `question`, `stopped` and `reader_answers`;
    against BREAK's they have `decomposition`, are as many and in the same order. All files that `readers.scan` reads
    will do.

    Raises UserError naming file and line for what cannot be read, and for predictions that are missing or given
    twice.
    """
    golden, predicted = list(stream_records(gold)), list(stream_records(predictions))
    if "decomposition" in golden[0].row and "sub_questions" not in golden[0].row:
        return _break(predicted, golden, predictions, gold), "by position"
    for record in golden:
        validate(record)
    answers = [_answer(record) for record in predicted]
    chosen, how = _match(predicted, golden, predictions, gold)
    matched = [
        PredictedSteps(
            record.row["question"],
            tuple(record.row["sub_questions"]),
            answers[place].decomposition,
            _stopped(predicted[place]),
            answers[place].text,
            record.row,
            _reader_answers(predicted[place], len(answers[place].decomposition.steps)),
        )
        for record, place in zip(golden, chosen, strict=True)
    ]
    return matched, how


def _match(
    predicted: Sequence[Record], golden: Sequence[Record], predictions: Path, gold: Path
) -> tuple[list[int], str]:
    """Return for each gold row the index of its prediction, and how they were matched."""
    asked = [_question(record) for record in predicted]
    wanted = [normalise(record.row["question"]) for record in golden]
    if len(asked) == len(wanted) and all(given in (None, own) for given, own in zip(asked, wanted, strict=True)):
        return list(range(len(wanted))), "by position"
    places: dict[str, int] = {}
    for place, question in enumerate(asked):
        if question is None:
            raise UserError(
                f"{predicted[place].source}: there is no question to match by, and {predictions} and {gold} differ in "
                f"their rows ({len(asked)} and {len(wanted)}); add the field 'question', or give one row for each"
            )
        first = places.setdefault(question, place)
        if first != place:
            raise RowError(
                predicted[place].source,
                "duplicate prediction",
                f"the question {short_json(predicted[place].row['question'])} was answered before, in "
                f"{predicted[first].source}; remove one of them",
            )
    missing = [record for record, question in zip(golden, wanted, strict=True) if question not in places]
    if missing:
        named = ", ".join(f"{short_json(record.row['question'])} ({record.source})" for record in missing[:NAMED])
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        raise UserError(f"{predictions}: no prediction for {named}{more}; add them, or leave them out of {gold}")
    surplus = len(places.keys() - set(wanted))
    return [places[question] for question in wanted], f"by question{f', {surplus} others not used' if surplus else ''}"


def _question(record: Record) -> str | None:
    question = record.row.get("question")
    if question is None:
        return None
    if not isinstance(question, str):
        raise RowError(record.source, "not a question", f"question must be text, not {short_json(question)}")
    return normalise(question)


def _answer(record: Record) -> _Answer:
    steps, text = record.row.get("sub_questions"), record.row.get("text")
    if isinstance(steps, list) and all(isinstance(step, str) for step in steps):
        # The text also shows whether the answer was a numbered list.
        if isinstance(text, str) and list(Decomposition.parse(text).steps) == [step.strip() for step in steps]:
            return _Answer(text, Decomposition.parse(text))
        return _Answer(None, Decomposition(tuple(steps)))
    if steps is None and isinstance(text, str):
        return _Answer(text, Decomposition.parse(text))
    if "decomposition" in record.row:
        wanted = "a prediction with the column decomposition requires BREAK's labels, with the same column, as --gold"
        raise RowError(record.source, "not a prediction", wanted)
    given = f"sub_questions is {short_json(steps)}" if steps is not None else f"text is {short_json(text)}"
    message = f"a prediction must have sub_questions, a list of text, or text; {given}"
    raise RowError(record.source, "not a prediction", message)


def _stopped(record: Record) -> bool | None:
    stopped = record.row.get("stopped")
    if stopped is not None and not isinstance(stopped, bool):
        raise RowError(record.source, "not a prediction", f"stopped must be true or false, not {short_json(stopped)}")
    return stopped


def _reader_answers(record: Record, steps: int) -> tuple[str, ...] | None:
    found = record.row.get("reader_answers")
    if found is None:
        return None
    if not isinstance(found, list) or len(found) != steps or not all(isinstance(one, str) for one in found):
        message = f"reader_answers must be a list of text, one for each of the {steps} steps, not {short_json(found)}"
        raise RowError(record.source, "not a prediction", message)
    return tuple(found)


def _break(
    predicted: Sequence[Record], golden: Sequence[Record], predictions: Path, gold: Path
) -> list[PredictedSteps]:
    if len(predicted) != len(golden):
        raise UserError(
            f"{predictions} has {len(predicted)} rows and {gold} has {len(golden)}; BREAK's predictions are matched by "
            "position: give one row for each, in the same order"
        )
    matched = []
    for record, answer in zip(golden, predicted, strict=True):
        for name in ("question_id", "question_text"):
            if name in answer.row and answer.row[name] != record.row.get(name):
                expected = short_json(record.row.get(name))
                message = f"{name} is {short_json(answer.row[name])}, but {record.source} has {expected}"
                raise RowError(answer.source, "other row", f"{message}; put the rows into the same order")
        own, given = (tuple(break_steps(_text(each, "decomposition"))) for each in (record, answer))
        question = _text(record, "question_text")
        matched.append(PredictedSteps(question, own, Decomposition(given), None, columns=record.row))
    return matched


def _text(record: Record, name: str) -> str:
    if not isinstance(record.row.get(name), str):
        there = ", ".join(record.row)
        raise RowError(record.source, "field missing", f"the field {name!r} must be text; this row has {there}")
    return str(record.row[name])
