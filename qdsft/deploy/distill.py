"""Ask a teacher model to decompose questions, and write the answers that agree as a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event

from tqdm import tqdm

from qdsft.console import say
from qdsft.data.checks.clean_rows import check_target
from qdsft.data.checks.lint import Texts, special_token
from qdsft.data.checks.near_duplicates import HeldOut
from qdsft.data.prompt import Message
from qdsft.data.readers import stream_records
from qdsft.data.record import Record, RowError, row_json
from qdsft.data.task import Task, task_of
from qdsft.data.text import normalise
from qdsft.data.validation import question_faults
from qdsft.deploy.endpoint import BadReply, Endpoint, ServerBusy
from qdsft.deploy.teacher import Sample, Teacher, choose
from qdsft.errors import UserError
from qdsft.files import exclusive, new_text_file, refuse_existing
from qdsft.hashing import file_sha256, json_sha256, text_sha256
from qdsft.inference.questions import read_questions
from qdsft.recipe.sections import Prompt
from qdsft.runs.layout import answer_log_path
from qdsft.runs.resume_log import Identity, ResumeLog, open_log, read_log

ATTEMPTS = 6
"""Requests for one answer while the server is busy."""
FIRST_WAIT = 1.0
"""Seconds before the second attempt; each further wait is twice as long."""
MOST_FAILING = 20
"""Replies in a row that hold no answer: something is wrong with the server or the request."""
REMEDY = "choose another output, or give the same again"


@dataclass(frozen=True)
class Questions:
    """The questions to ask, by row number, and the reasons why others are not asked."""

    source: Path
    records: dict[int, Record]
    messages: dict[int, list[Message]]
    left_out: list[RowError]


@dataclass(frozen=True)
class Spent:
    """What the answers took, as far as the server counts tokens."""

    answers: int
    prompt_tokens: int
    completion_tokens: int
    uncounted: int
    """Answers without a count of tokens."""


@dataclass(frozen=True)
class DistillReport:
    """The outcome for a file of questions."""

    written: int
    dropped: tuple[RowError, ...]
    """First those that were not asked, then those without a row, each in the order of the file."""
    spent: Spent

    def kinds(self) -> Counter[str]:
        """Return the number of dropped questions for each reason."""
        return Counter(error.kind for error in self.dropped)


def read_to_ask(source: Path, teacher: Teacher, held_out: Path | None) -> Questions:
    """Return the questions of a file that may be asked.

    Left out are rows that cannot be asked, repeated questions, and those equal or nearly equal to a question of the
    file `held_out`. Raises UserError for files that cannot be read, a prompt without the question, and if none is left.
    """
    task = _task(teacher)
    gate = _held_out_questions(held_out) if held_out else None
    records: dict[int, Record] = {}
    messages: dict[int, list[Message]] = {}
    left_out: list[RowError] = []
    seen: dict[str, str] = {}
    for index, row in enumerate(read_questions(source, task)):
        try:
            record = _checked(row, gate, seen)
            messages[index], records[index] = task.messages(record), record
        except RowError as error:
            left_out.append(error)
    if not records:
        first = f"; the first: {left_out[0]}" if left_out else ""
        raise UserError(f"{source}: there is no question to ask{first}; give a file with at least one")
    return Questions(source, records, messages, left_out)


def distill(
    questions: Questions, output: Path, endpoint: Endpoint, teacher: Teacher, *, least: float, workers: int = 4
) -> DistillReport:
    """Ask every question `teacher.samples` times, and write the answers that agree to `output` in the file's order.

    Each answer is saved to a log beside `output` when it arrives, so the same call resumes after a kill and asks
    nothing twice. `least` is the lowest agreement of a row. Raises UserError for an `output` that exists, a log of
    other questions or another teacher, a server that stays busy or refuses, and if no row is left.
    """
    refuse_existing(output)
    check_target(output, [questions.source])
    log_path = answer_log_path(output)
    with (
        exclusive(output, REMEDY, doing="writing it"),
        open_log(log_path, _identity(questions, teacher), Sample, remedy=REMEDY, replace=False) as log,
    ):
        if log.results:
            say(f"{log_path}: resuming after {len(log.results)} answers")
        _ask_all(questions, endpoint, teacher, log, workers)
        rows, dropped = [], list(questions.left_out)
        for index, record in questions.records.items():
            places = range(index * teacher.samples, (index + 1) * teacher.samples)
            found = choose(record, [log.results[place] for place in places], teacher, least)
            dropped.append(found) if isinstance(found, RowError) else rows.append(found)
        if not rows:
            raise UserError(f"{output} is not written: no row is left; the first: {dropped[0]}; the answers are kept")
        with new_text_file(output) as file:
            file.writelines(row_json(row) + "\n" for row in rows)
        log.delete()
    return DistillReport(len(rows), tuple(dropped), spent(log.results.values()))


def answered(questions: Questions, output: Path, teacher: Teacher) -> int:
    """Return the number of answers that an interrupted command has left for `output`."""
    return len(read_log(answer_log_path(output), _identity(questions, teacher), Sample))


def spent(samples: Iterable[Sample]) -> Spent:
    """Return the sums over some answers."""
    found = list(samples)
    known = [one for one in found if one.prompt_tokens is not None and one.completion_tokens is not None]
    return Spent(
        len(found),
        sum(one.prompt_tokens or 0 for one in known),
        sum(one.completion_tokens or 0 for one in known),
        len(found) - len(known),
    )


def _ask_all(questions: Questions, endpoint: Endpoint, teacher: Teacher, log: ResumeLog[Sample], workers: int) -> None:
    places = [index * teacher.samples + i for index in questions.records for i in range(teacher.samples)]
    waiting = [place for place in places if place not in log.results or log.results[place].text is None]
    stopped = Event()

    def ask(place: int) -> Sample:
        index = place // teacher.samples
        try:
            return _ask(questions.messages[index], endpoint, teacher, stopped)
        except UserError as error:
            raise UserError(f"{questions.records[index].source}: {error}") from error

    failing = 0
    with ThreadPoolExecutor(workers) as pool, tqdm(total=len(waiting), desc="asking", disable=None) as bar:
        futures = {pool.submit(ask, place): place for place in waiting}
        try:
            for future in as_completed(futures):
                sample = future.result()
                log.add(futures.pop(future), sample)
                bar.update()
                failing = failing + 1 if sample.text is None else 0
                if failing == MOST_FAILING:
                    raise UserError(f"{failing} replies in a row hold no answer; the last: {sample.problem}")
        except BaseException:
            stopped.set()
            pool.shutdown(cancel_futures=True)  # waits for the answers under way, which are paid for
            _keep(futures, log)
            raise


def _keep(futures: dict[Future[Sample], int], log: ResumeLog[Sample]) -> None:
    for future, place in futures.items():
        if future.done() and not future.cancelled() and future.exception() is None:
            log.add(place, future.result())


def _ask(messages: Sequence[Message], endpoint: Endpoint, teacher: Teacher, stopped: Event) -> Sample:
    """Return one answer. Waits and asks again while the server is busy; raises UserError if it stays so."""
    for attempt in range(ATTEMPTS):
        try:
            answer = endpoint.chat(teacher.body(messages), teacher.max_tokens)
            return Sample(answer.text, "", answer.stopped, answer.prompt_tokens, answer.completion_tokens)
        except BadReply as error:
            return Sample(None, str(error))
        except ServerBusy as error:
            pause = max(error.wait, FIRST_WAIT * 2**attempt)
            if attempt == ATTEMPTS - 1:
                raise
            say(f"{error}; trying again in {pause:g} seconds")
            if stopped.wait(pause):
                raise
    raise AssertionError("the last attempt returns or raises")


def _identity(questions: Questions, teacher: Teacher) -> Identity:
    """Return what the answers in a log depend on; not the address, which may change between two rentals."""
    settings = asdict(teacher)
    prompt, extra = settings.pop("prompt"), settings.pop("extra")
    hashes = {"input": file_sha256(questions.source), "prompt": text_sha256(prompt), "extra": json_sha256(extra)}
    return {"command": "distill", **hashes, **settings}


def _task(teacher: Teacher) -> Task:
    task = task_of(Prompt(system="", user=teacher.prompt))
    if "question" not in task.columns:
        raise UserError("the prompt has no {{ question }}; write it where the question belongs")
    return task


def _held_out_questions(path: Path) -> HeldOut:
    found = HeldOut()
    for record in stream_records(path):
        for fault in question_faults(record):
            raise fault
        found.add(normalise(record.row["question"]), record.source)
    return found


def _checked(row: Record | RowError, gate: HeldOut | None, seen: dict[str, str]) -> Record:
    """Return a row that may be asked; raises RowError for any other."""
    if isinstance(row, RowError):
        raise row
    question = row.row["question"]
    if message := special_token(Texts.of(question, [])):
        raise RowError(row.source, "special token", message)
    text = normalise(question)
    if match := gate.match(text) if gate else None:
        same = "the same" if match.same else f"nearly the same (similarity {match.similarity:.2f})"
        raise RowError(row.source, "question is held out", f"{match.source} asks {same}; it is not sent")
    if text in seen:
        raise RowError(row.source, "question repeated", f"{seen[text]} has the same question")
    seen[text] = row.source
    return row
