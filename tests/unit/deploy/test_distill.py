"""No fault of a teacher gets into the data set, and nothing is asked twice."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers.loopback_servers import stub_server
from helpers.teacher_faults import REPLIES, TEXTS, TOKEN, Reply, said

from qdsft.data.checks.check_files import Inputs, check_files, inspect_decomposition
from qdsft.data.checks.problems import Tally
from qdsft.data.decomposition import numbered
from qdsft.data.record import Record
from qdsft.data.synth import generate_mixed
from qdsft.deploy import distill as module
from qdsft.deploy.distill import DistillReport, distill, read_to_ask
from qdsft.deploy.endpoint import Endpoint
from qdsft.deploy.teacher import Teacher
from qdsft.errors import UserError
from qdsft.runs.layout import answer_log_path

Respond = Callable[[str, int], Reply]
"""(question, how often it was asked before) -> reply."""


def _rows() -> dict[str, list[str]]:
    rows = generate_mixed(["en", "ko"], 400, 0, min_steps=2, max_steps=3)
    good = [
        row for row in rows if not inspect_decomposition(Record(row, "")).problems and "#" in row["sub_questions"][-1]
    ]
    return {row["question"]: row["sub_questions"] for row in good}


ROWS = _rows()
"""Question -> a right decomposition."""
ENGLISH = [question for question in ROWS if question.isascii()]
TEACHER = Teacher("m", samples=3)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_WAIT", 0.001)
    monkeypatch.setenv("QDSFT_TEACHER_TOKEN", TOKEN)


class Server:
    """Count the requests and reply what `respond` says."""

    def __init__(self, respond: Respond) -> None:
        self._respond = respond
        self.asked: Counter[str] = Counter()

    def __call__(self, path: str, body: dict[str, Any]) -> Reply:
        question = body["messages"][-1]["content"].rsplit("Question: ", 1)[1].rstrip("\n")
        before = self.asked[question]
        self.asked[question] += 1
        return self._respond(question, before)


def right(question: str, before: int) -> Reply:
    return said(numbered(ROWS[question]))


def write(folder: Path, questions: Sequence[str]) -> Path:
    path = folder / "q.jsonl"
    path.write_text("".join(json.dumps({"question": one, "id": i}) + "\n" for i, one in enumerate(questions)))
    return path


def run(
    source: Path, server: Server, *, teacher: Teacher = TEACHER, held_out: Path | None = None, workers: int = 1
) -> tuple[DistillReport, list[dict[str, Any]]]:
    """Distill from a loopback server; return the report and the rows."""
    output = source.with_name("out.jsonl")
    questions = read_to_ask(source, teacher, held_out)
    with stub_server(server) as address:
        endpoint = Endpoint(address, token_name="QDSFT_TEACHER_TOKEN", seconds=10)
        report = distill(questions, output, endpoint, teacher, least=0.6, workers=workers)
    return report, [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]


def test_right_answers_become_rows_in_the_order_of_the_file(tmp_path: Path) -> None:
    questions = list(ROWS)[:12]
    server = Server(right)
    report, rows = run(write(tmp_path, questions), server, workers=4)
    assert [(row["question"], row["sub_questions"], row["id"]) for row in rows] == [
        (question, ROWS[question], i) for i, question in enumerate(questions)
    ]
    assert rows[0]["provenance"] == {**rows[0]["provenance"], "model": "m", "answers": 3, "usable": 3, "agreement": 1.0}
    assert server.asked == dict.fromkeys(questions, 3) and not report.dropped
    assert (report.spent.prompt_tokens, report.spent.completion_tokens, report.spent.uncounted) == (3600, 720, 0)
    assert {path.name for path in tmp_path.iterdir()} == {"q.jsonl", "out.jsonl"}
    tally = Tally()
    assert not list(check_files(Inputs((tmp_path / "out.jsonl",)), tally)) and tally.clean == 12


def test_no_planted_fault_enters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every second question is answered rightly, and every other one with one fault, in all of its answers."""
    kinds = [*TEXTS, *REPLIES, "other question's steps", "disagreement", "one right answer only", "cut off"]
    faulty, clean = ENGLISH[: len(kinds)], list(ROWS)[-len(kinds) :]
    planted = dict(zip(faulty, kinds, strict=True))
    longest = {question: steps for question, steps in ROWS.items() if question not in faulty and len(steps) == 3}

    def respond(question: str, before: int) -> Reply:
        kind = planted.get(question)
        if kind is None:
            return right(question, before)
        if kind in REPLIES:
            return REPLIES[kind]
        if kind in TEXTS:
            return said(TEXTS[kind](ROWS[question]))
        if kind == "cut off":
            return said(numbered(ROWS[question]), "length")
        if kind == "one right answer only":
            return right(question, before) if before == 1 else said("I do not know.")
        other = list(longest.values())[-1 - (before if kind == "disagreement" else 0)]
        return said(numbered(other))

    order = [one for pair in zip(faulty, clean, strict=True) for one in pair]
    report, rows = run(write(tmp_path, order), Server(respond))
    entered = {planted[row["question"]] for row in rows if row["question"] in planted}
    assert entered == set()
    assert [row["question"] for row in rows] == clean and len(report.dropped) == len(kinds) > 70
    everything = (tmp_path / "out.jsonl").read_text(encoding="utf-8") + "".join(capsys.readouterr())
    assert TOKEN not in everything + "".join(map(str, report.dropped))


def test_thoughts_are_left_out(tmp_path: Path) -> None:
    server = Server(lambda question, before: said(f"<think>\n1. no\n</think>\n\n{numbered(ROWS[question])}"))
    assert run(write(tmp_path, ENGLISH[:1]), server)[1][0]["sub_questions"] == ROWS[ENGLISH[0]]


def test_the_answer_that_agrees_most_is_taken(tmp_path: Path) -> None:
    question, steps = ENGLISH[0], ROWS[ENGLISH[0]]
    odd = [*steps[:-1], f"Can you tell me exactly: {steps[-1]}"]
    answers = [odd, steps, steps]
    _, rows = run(write(tmp_path, [question]), Server(lambda question, before: said(numbered(answers[before]))))
    assert rows[0]["sub_questions"] == steps and 0.6 < rows[0]["provenance"]["agreement"] < 1


def test_held_out_and_repeated_questions_are_never_sent(tmp_path: Path) -> None:
    held, near, free = ENGLISH[:3]
    gate = tmp_path / "eval.jsonl"
    gate.write_text("".join(json.dumps({"question": one}) + "\n" for one in (held.upper(), near + " ?")))
    source = write(tmp_path, [held, near, free, f" {free}  ", "Say </s> twice?", "", "a\x00b?"])
    server = Server(right)
    report, rows = run(source, server, held_out=gate)
    assert set(server.asked) == {free} and [row["question"] for row in rows] == [free]
    assert report.kinds() == {
        "question is held out": 2,
        "question repeated": 1,
        "special token": 1,
        "question missing or empty": 1,
        "control character": 1,
    }


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(module, "Event", lambda: _Clock(waits))
    question = ENGLISH[0]
    raw = b"HTTP/1.1 %d Busy\r\nRetry-After: %s\r\nContent-Length: 0\r\n\r\n"
    headers = [b"7", b"99999999", b"never"]
    server = Server(lambda _, n: (0, raw % (status, headers[n])) if n < 3 else right(question, n))
    _, rows = run(write(tmp_path, [question]), server)
    assert len(rows) == 1 and server.asked[question] == 6
    assert waits == [7.0, 60.0, 0.004]


class _Clock:
    """An event that notes the waits and passes over them."""

    def __init__(self, waits: list[float]) -> None:
        self._waits = waits

    def wait(self, seconds: float) -> bool:
        self._waits.append(seconds)
        return False

    def set(self) -> None:
        """Nobody waits."""


BROKEN = {
    "busy": (503, b""),
    "closed": (0, b""),
    "nonsense": (0, b"nonsense\r\n\r\n"),
    "short": (0, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"),
    "chunks": (0, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
    "unauthorized": (401, {"error": f"wrong key {TOKEN}"}),
    "gone": (404, {"error": f"no such model; your key is {TOKEN}"}),
    "other status": (302, b""),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_server_ends_the_command_and_a_better_one_resumes(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions = ENGLISH[:4]
    source = write(tmp_path, questions)
    server = Server(lambda question, n: right(question, n) if question != questions[2] else BROKEN[kind])
    with pytest.raises(UserError) as caught:
        run(source, server)
    assert str(caught.value).startswith(f"{source}:3: http://127.0.0.1") and TOKEN not in str(caught.value)
    assert not (tmp_path / "out.jsonl").exists()
    log = answer_log_path(tmp_path / "out.jsonl")
    assert TOKEN not in log.read_text(encoding="utf-8") + "".join(capsys.readouterr())
    with pytest.raises(UserError, match="different values of temperature"):
        run(source, server, teacher=Teacher("m", samples=3, temperature=0.1))
    better = Server(right)
    resumed = run(source, better)[1]
    assert better.asked == {questions[2]: 3, questions[3]: 3} and not log.exists()
    (tmp_path / "out.jsonl").unlink()
    assert run(source, Server(right))[1] == resumed


def test_a_redirect_to_another_host_is_not_followed(tmp_path: Path) -> None:
    elsewhere = Server(right)
    with stub_server(elsewhere) as other:
        head = f"HTTP/1.1 307 Moved\r\nLocation: {other}/v1/chat/completions\r\nContent-Length: 0\r\n\r\n"
        with pytest.raises(UserError, match="status 307"):
            run(write(tmp_path, ENGLISH[:1]), Server(lambda question, n: (0, head.encode())))
    assert not elsewhere.asked


def test_a_server_that_answers_nothing_is_left_early(tmp_path: Path) -> None:
    server = Server(lambda question, n: (200, {"error": "no"}))
    source = write(tmp_path, ENGLISH[:20])
    with pytest.raises(UserError, match="20 replies in a row hold no answer"):
        run(source, server)
    assert server.asked.total() <= 22
    assert len(run(source, Server(right))[1]) == 20  # replies without an answer are asked for again


def test_a_file_without_questions_and_a_prompt_without_one_are_refused(tmp_path: Path) -> None:
    source = write(tmp_path, [""])
    with pytest.raises(UserError, match="no question to ask; the first"):
        read_to_ask(source, TEACHER, None)
    for prompt, message in (("Split it.", "no {{ question }}"), ("{{ question", "not valid Jinja")):
        with pytest.raises(UserError, match=message):
            read_to_ask(source, Teacher("m", prompt), None)


def test_nothing_is_written_if_no_row_is_left(tmp_path: Path) -> None:
    source = write(tmp_path, ENGLISH[:2])
    with pytest.raises(UserError, match=r"is not written: no row is left; the first: .*is not numbered"):
        run(source, Server(lambda question, n: said("I do not know.")))
    assert not (tmp_path / "out.jsonl").exists()
