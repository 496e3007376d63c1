"""Answer a file of questions, in the order of the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from qdsft.console import say
from qdsft.data.record import Record, RowError
from qdsft.data.task import Task
from qdsft.errors import UserError
from qdsft.files import disk_errors, exclusive, new_text_file, refuse_existing
from qdsft.hashing import file_sha256
from qdsft.inference import vllm_engine
from qdsft.inference.generate import Answer, PromptTooLarge
from qdsft.inference.loaded_run import LoadedRun, RunPrompts, check_weight_files, load_prompts, load_weights
from qdsft.inference.merged_adapter import load_merged
from qdsft.inference.questions import read_questions
from qdsft.runs.layout import answer_log_path
from qdsft.runs.manifest import Manifest
from qdsft.runs.resume_log import ResumeLog, open_log

Engine = Literal["transformers", "vllm"]
OUTPUT_REMEDY = "choose another output"
MERGE_FROM = 64
"""Number of questions from which merging the adapter saves more time than its check takes."""


@dataclass(frozen=True)
class FileReport:
    """The outcome for the questions of a file; each was either written or refused."""

    written: int
    refused: tuple[RowError, ...]
    """In the order of the file."""
    invalid: int
    """Written answers that are not a valid decomposition."""
    unstopped: int
    """Written answers that were cut off at evaluation.max_new_tokens."""


@dataclass
class _Question:
    """A row with its prompt."""

    record: Record
    prompt: tuple[int, ...]


def decompose_file(
    run_dir: Path,
    source: Path,
    output: Path,
    *,
    fmt: str = "json",
    batch_size: int | None = None,
    constrained: bool = False,
    engine: Engine = "transformers",
    merge: bool = True,
    trust_remote_code: bool = False,
    on_refused: Callable[[RowError], None] = lambda error: None,
    manifest: Manifest | None = None,
) -> FileReport:
    """Answer every question of `source`; `output` appears once it is complete, in the order of `source`.

    Equal prompts are decoded once. Questions and answers are held in memory. Each answer is saved to a log beside
    `output` when its batch ends, so the same call resumes after a kill. A row that cannot be asked or written is left
    out, reported, and passed to `on_refused` at once. Raises UserError for an `output` that exists or cannot be
    written, for a file that cannot be read or has no usable row, and as load_run does.
    """
    refuse_existing(output)
    prompts = load_prompts(run_dir, manifest, trust_remote_code=trust_remote_code)
    prompts.task.check_format(fmt)
    if engine == "vllm":
        _check_vllm(constrained, prompts)
    questions, refused = read_prompts(prompts, source)
    _refuse_all(source, questions, refused)
    for index in sorted(refused):
        on_refused(refused[index])
    known = set(refused)
    settings = {"constrained": constrained, "engine": engine, "merge": merge}
    identity = {"run": prompts.manifest.sha256(), "input": file_sha256(source), "settings": settings}
    log_path = answer_log_path(output)
    with disk_errors(output, OUTPUT_REMEDY):
        output.parent.mkdir(parents=True, exist_ok=True)
    with (
        exclusive(output, OUTPUT_REMEDY, doing="writing it"),
        open_log(log_path, identity, Answer, remedy=OUTPUT_REMEDY) as log,
    ):
        if log.results:
            say(f"{log_path}: resuming after {len(log.results)} answers")
        first = {question.prompt: index for index, question in reversed(questions.items())}
        waiting = [index for index in first.values() if index not in log.results]
        if waiting:
            options = (batch_size or prompts.recipe.evaluation.batch_size, constrained)
            load = load_merged if merge and len(first) >= MERGE_FROM else load_weights
            run = prompts if engine == "vllm" else load(prompts)
            too_large = _decode(run, questions, waiting, log, *options)
            refused |= {
                index: RowError(question.record.source, "too large", str(too_large[first[question.prompt]]))
                for index, question in questions.items()
                if first[question.prompt] in too_large
            }
        answers = {i: log.results[first[q.prompt]] for i, q in questions.items() if i not in refused}
        report = _write(output, fmt, questions, answers, refused, source, prompts.task)
        log.delete()
    for index in sorted(refused.keys() - known):
        on_refused(refused[index])
    return report


def read_prompts(run: RunPrompts, source: Path) -> tuple[dict[int, _Question], dict[int, RowError]]:
    """Return the questions, and the reasons why other rows cannot be asked, by row number; raises UserError."""
    records: dict[int, Record] = {}
    refused: dict[int, RowError] = {}
    messages = {}
    for index, row in enumerate(read_questions(source, run.task)):
        try:
            if isinstance(row, RowError):
                raise row
            messages[index], records[index] = run.task.messages(row), row
        except RowError as error:
            refused[index] = error
    encoded = _encode(run, messages)
    for index, ids in encoded.items():
        if isinstance(ids, UserError):
            refused[index] = RowError(records[index].source, "no prompt", str(ids))
    return {
        i: _Question(records[i], tuple(ids)) for i, ids in encoded.items() if not isinstance(ids, UserError)
    }, refused


def _encode(run: RunPrompts, messages: dict[int, Any]) -> dict[int, list[int] | UserError]:
    """Return each prompt's ids, or the error. On an error, halve: encoding many prompts together is faster."""
    if not messages:
        return {}
    try:
        return dict(zip(messages, run.encode(list(messages.values())), strict=True))
    except UserError as error:
        if len(messages) == 1:
            return dict.fromkeys(messages, error)
        items = list(messages.items())
        middle = len(items) // 2
        return {**_encode(run, dict(items[:middle])), **_encode(run, dict(items[middle:]))}


def _decode(
    run: RunPrompts,
    questions: dict[int, _Question],
    waiting: list[int],
    log: ResumeLog[Answer],
    batch_size: int,
    constrained: bool,
) -> dict[int, UserError]:
    """Write the answers to the log; return the questions that do not fit into memory."""
    too_large: dict[int, UserError] = {}
    while waiting:
        ids = [questions[index].prompt for index in waiting]
        try:
            for number, answer in _stream(run, ids, batch_size, constrained):
                log.add(waiting[number], answer)
            return too_large
        except PromptTooLarge as error:
            too_large[waiting[error.index]] = error
        waiting = [index for index in waiting if index not in log.results and index not in too_large]
    return too_large


def _stream(run: RunPrompts, ids: list[Any], batch_size: int, constrained: bool) -> Iterator[tuple[int, Answer]]:
    if isinstance(run, LoadedRun):
        return run.stream_ids(ids, batch_size=batch_size, progress=True, constrained=constrained)
    return vllm_engine.stream_ids(run, ids)


def _write(
    output: Path,
    fmt: str,
    questions: dict[int, _Question],
    answers: dict[int, Answer],
    refused: dict[int, RowError],
    source: Path,
    task: Task,
) -> FileReport:
    invalid, unstopped, written = 0, 0, []
    left_out: set[str] = set()
    for index, answer in answers.items():
        record = questions[index].record
        try:
            written.append(task.file_entry(fmt, record.row, answer.text, stopped=answer.stopped))
        except UserError as error:
            refused[index] = RowError(record.source, "no such form", str(error))
            continue
        left_out |= task.dropped_columns(fmt, record.row)
        invalid += bool(task.problems(answer.text))
        unstopped += not answer.stopped
    ordered = tuple(refused[index] for index in sorted(refused))
    _refuse_all(source, answers if written else {}, refused)
    if left_out:
        say(f"{output}: the columns {', '.join(sorted(left_out))} of {source} are not carried over")
    with new_text_file(output) as file:
        file.writelines(written)
    return FileReport(len(written), ordered, invalid, unstopped)


def _refuse_all(source: Path, usable: dict[int, Any], refused: dict[int, RowError]) -> None:
    if usable:
        return
    first = refused[min(refused)] if refused else None
    reason = f"none of its {len(refused)} rows can be used; the first: {first}" if first else "there are no questions"
    raise UserError(f"{source}: {reason}; give a file with at least one")


def _check_vllm(constrained: bool, prompts: RunPrompts) -> None:
    if constrained:
        raise UserError("--constrained works with --engine transformers alone; leave one of them out")
    vllm_engine.check_installed()
    check_weight_files(prompts)
