"""`qdsft data distill` as people meet it: what is sent, what is printed, and where the token is not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from helpers.loopback_servers import stub_server
from helpers.paths import ROOT
from helpers.teacher_faults import TOKEN, Reply, said

from qdsft.cli.main import main

QUESTIONS = {
    "Who directed the film that won the first Golden Lion?": [
        "Which film won the first Golden Lion?",
        "Who directed #1?",
    ],
    "경복궁을 지은 왕의 아버지는 누구인가요?": ["경복궁을 지은 왕은 누구인가요?", "#1의 아버지는 누구인가요?"],
}
Capture = pytest.CaptureFixture[str]


def answer(body: dict[str, Any]) -> Reply:
    question = body["messages"][-1]["content"].rsplit("Question: ", 1)[1].rstrip("\n")
    return said("\n".join(f"{i}. {step}" for i, step in enumerate(QUESTIONS[question], 1)))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QDSFT_TEACHER_TOKEN", TOKEN)
    Path("q.txt").write_text("\n".join(QUESTIONS), encoding="utf-8")
    return tmp_path


def test_rows_tokens_and_cost(capsys: Capture) -> None:
    bodies: list[dict[str, Any]] = []

    def respond(path: str, body: dict[str, Any]) -> Reply:
        bodies.append(body)
        return answer(body)

    prices = ("--price-input", "2.5", "--price-output", "10")
    with stub_server(respond) as address:
        command = ("data", "distill", "q.txt", "out.jsonl", "--endpoint", f"{address}/v1", "--model", "m", *prices)
        fields = '{"temperature": null, "seed": 7}'
        assert main([*command, "--samples", "2", "--max-tokens", "99", "--fields", fields]) == 0
    rows = [json.loads(line) for line in Path("out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {row["question"]: row["sub_questions"] for row in rows} == QUESTIONS
    assert {key: bodies[0][key] for key in ("model", "max_tokens", "seed")} == {
        "model": "m",
        "max_tokens": 99,
        "seed": 7,
    }
    assert len(bodies) == 4 and "temperature" not in bodies[0]
    out = capsys.readouterr().out
    assert "2 rows written to out.jsonl, 0 dropped\n" in out
    assert "4 answers, 400 prompt tokens, 80 answer tokens, which cost 0.0018\n" in out  # 400 x 2.5 + 80 x 10 = 1800
    assert main(["data", "check", "out.jsonl", "--strict"]) == 0
    assert not any(TOKEN in path.read_text(encoding="utf-8") for path in Path().iterdir())


def test_nothing_is_sent_without_an_endpoint_or_in_a_dry_run(capsys: Capture) -> None:
    asked: list[str] = []

    def respond(path: str, body: dict[str, Any]) -> Reply:
        asked.append(path)
        return answer(body)

    command = ["data", "distill", "q.txt", "out.jsonl", "--model", "m"]
    assert main(command) == 1
    assert "--endpoint is missing" in capsys.readouterr().err
    assert main([*command, "--dry-run"]) == 0
    with stub_server(respond) as address:
        assert main([*command, "--dry-run", "--endpoint", address, "--price-output", "10"]) == 0
    out = capsys.readouterr().out
    assert not asked and os.listdir() == ["q.txt"] and TOKEN not in out
    assert "requests                   8" in out and '"model": "m"' in out and "QDSFT_TEACHER_TOKEN" in out
    assert "4096  at most, which cost 0.04" in out


def test_another_prompt_reads_other_columns() -> None:
    Path("p.txt").write_text("Domain: {{ domain }}\nQuestion: {{ question }}\n", encoding="utf-8")
    question, steps = next(iter(QUESTIONS.items()))
    row = {"question": question, "domain": "films", "sub_questions": ["old?"], "step_answers": ["x"], "provenance": 1}
    Path("q.jsonl").write_text(json.dumps(row), encoding="utf-8")
    seen: list[str] = []

    def respond(path: str, body: dict[str, Any]) -> Reply:
        seen.append(body["messages"][0]["content"])
        return answer(body)

    with stub_server(respond) as address:
        command = ["data", "distill", "q.jsonl", "o.jsonl", "--model", "m", "--prompt", "p.txt"]
        assert main([*command, "--endpoint", address]) == 0
    written = json.loads(Path("o.jsonl").read_text(encoding="utf-8"))
    assert seen[0] == f"Domain: films\nQuestion: {question}\n"
    assert written.pop("provenance")["model"] == "m"
    assert written == {"question": question, "domain": "films", "sub_questions": steps}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--samples", "1"], "cannot agree"),
        (["--temperature", "-1"], "not a number from 0"),
        (["--price-input", "nan"], "not a number from 0"),
        (["--fields", "[1]"], "JSON object"),
        (["--fields", '{"stream": true}'], "without the fields"),
        (["--fields", "{"], "not JSON"),
        (["--min-agreement", "2"], "not a share"),
    ],
)
def test_wrong_options_are_wrong_usage(options: list[str], message: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["data", "distill", "q.txt", "out.jsonl", "--model", "m", "--dry-run", *options])
    assert caught.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize("token", ["a b", "kéy", "line\nfeed"])
def test_a_token_that_no_header_holds_is_not_printed(
    token: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("QDSFT_TEACHER_TOKEN", token)
    assert main(["data", "distill", "q.txt", "o.jsonl", "--model", "m", "--endpoint", "http://127.0.0.1:1"]) == 1
    error = capsys.readouterr().err
    assert "QDSFT_TEACHER_TOKEN" in error and token not in error


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_command_resumes(sent: signal.Signals, capsys: Capture) -> None:
    reached, release, asked = threading.Event(), threading.Event(), []

    def respond(path: str, body: dict[str, Any]) -> Reply:
        asked.append(path)
        if len(asked) == 6:
            reached.set()
            release.wait(20)
        return answer(body)

    with stub_server(respond) as address:
        command = ["data", "distill", "q.txt", "out.jsonl", "--model", "m", "--endpoint", address, "--workers", "1"]
        process = subprocess.Popen(
            [sys.executable, "-m", "qdsft", *command],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
        )
        assert reached.wait(30)
        process.send_signal(sent)
        if sent == signal.SIGINT:
            release.set()
        process.communicate(timeout=30)
        release.set()
        assert process.returncode == (-sent if sent == signal.SIGKILL else 130)
        assert not Path("out.jsonl").exists()
        before = len(asked)
        assert main(command) == 0
    # The request under way is paid for: an interrupt waits for its answer, which a kill loses.
    assert len(asked) - before == (3 if sent == signal.SIGKILL else 2)
    assert len(Path("out.jsonl").read_text(encoding="utf-8").splitlines()) == 2
