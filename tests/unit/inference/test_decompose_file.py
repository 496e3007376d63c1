"""Files of questions: in order, nothing lost, and on from where a kill left off."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.paths import ROOT
from helpers.tiny_run import make_run

from qdsft.data.decomposition import Decomposition
from qdsft.errors import UserError
from qdsft.inference import decompose_file as stage
from qdsft.inference.decompose_file import FileReport, decompose_file
from qdsft.inference.decomposer import Decomposer
from qdsft.inference.generate import Answer
from qdsft.inference.loaded_run import LoadedRun, RunPrompts, load_prompts
from qdsft.runs.layout import answer_log_path

QUESTIONS = ["Who is older, Ada or Bo?", "서울은?", "A?", "Who is older, Ada or Bo?", "Which of the two " * 9, "B"]


@pytest.fixture(scope="module")
def run_dir(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "whole", tiny_model("llama"))


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "questions.jsonl"
    rows = [{"question": question, "id": number} for number, question in enumerate(QUESTIONS)]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_answers_stand_in_order_and_are_those_of_one_by_one(run_dir: Path, questions: Path, tmp_path: Path) -> None:
    output = tmp_path / "new" / "answers.jsonl"
    report = decompose_file(run_dir, questions, output, batch_size=4)
    rows = rows_of(output)
    assert [(row["question"], row["id"]) for row in rows] == [(q, i) for i, q in enumerate(QUESTIONS)]
    decompose = Decomposer(run_dir)
    assert [row["text"] for row in rows] == [decompose.text(question) for question in QUESTIONS]
    assert all(row["sub_questions"] == list(Decomposition.parse(row["text"]).steps) for row in rows)
    invalid = sum(bool(row["problems"]) for row in rows)
    assert report == FileReport(6, (), invalid, sum(not row["stopped"] for row in rows)) and invalid
    assert list(output.parent.iterdir()) == [output]


@pytest.mark.parametrize("fmt", ["json", "text", "self-ask", "llamaindex", "dag", "mermaid"])
def test_constrained_answers_have_every_form(run_dir: Path, questions: Path, tmp_path: Path, fmt: str) -> None:
    pytest.importorskip("llguidance")
    report = decompose_file(run_dir, questions, tmp_path / "out", fmt=fmt, constrained=True)
    assert (report.written, report.refused, report.invalid) == (6, (), 0)
    text = (tmp_path / "out").read_text(encoding="utf-8")
    assert text.count("서울은?") == (2 if fmt == "self-ask" else 1) and text.index("서울은?") < text.index(
        "Which of the two"
    )


def test_an_invalid_answer_without_a_form_is_named(run_dir: Path, questions: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none of its 6 rows can be used; the first: .*:1: .*; this has no dag form"):
        decompose_file(run_dir, questions, tmp_path / "out", fmt="dag")
    assert not (tmp_path / "out").exists()


HOSTILE = [
    b'\xef\xbb\xbf{"question": "first?"}',
    b'{"question": "bad </s> token"}',
    b"",
    b"\xff\xfe\x00",
    b'{"question": "' + b"x y " * 25_000 + b'"}',
    b'{"question": ["list"]}',
    b'{"question": "first?", "sub_questions": ["gold"]}',
    b'{"questions": "typo"}',
    b'{"question": "bell \\u0007"}',
    b'{"question": "last?"}',
    b'{"question": "torn',
]


def test_a_bad_row_is_named_with_its_line_and_the_others_are_answered(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "q.jsonl"
    source.write_bytes(b"\n".join(HOSTILE))
    report = decompose_file(run_dir, source, tmp_path / "out.jsonl", batch_size=2)
    rows = rows_of(tmp_path / "out.jsonl")
    assert [row["question"] for row in rows] == ["first?", "first?", "last?"]
    assert rows[0]["text"] == rows[1]["text"] and rows[1]["sub_questions"] != ["gold"]
    assert [error.source.rpartition(":")[2] for error in report.refused] == ["2", "4", "5", "6", "8", "9", "11"]
    messages = [error.message for error in report.refused]
    assert "special token; remove it" in messages[0] and "not UTF-8" in messages[1]
    assert "and the model has 4096 positions; shorten the question" in messages[2]
    assert all("\n" not in message and len(message) < 300 for message in messages)
    assert "the columns sub_questions of" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "there are no questions; give a file with at least one"),
        (b"\xef\xbb\xbf\n\n", "there are no questions"),
        (b"\x89PNG\r\n\x1a\n\x00", r"none of its \d rows can be used; the first: .*:1: not UTF-8"),
        (b'{"q": "a"}\n{"q": "b"}', "none of its 2 rows can be used; the first: .*:1: the field 'question' is missing"),
    ],
)
def test_a_file_without_a_usable_row(run_dir: Path, tmp_path: Path, content: bytes, message: str) -> None:
    source = tmp_path / "q.jsonl"
    source.write_bytes(content)
    with pytest.raises(UserError, match=message):
        decompose_file(run_dir, source, tmp_path / "out.jsonl")
    assert list(tmp_path.iterdir()) == [source]


def test_an_output_that_exists_is_refused_before_anything_is_loaded(questions: Path, tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text("precious", encoding="utf-8")
    with pytest.raises(UserError, match=r"out\.jsonl exists; delete it or choose another name"):
        decompose_file(tmp_path / "no run", questions, tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_text(encoding="utf-8") == "precious"


class Killed(BaseException):
    """Stands for SIGKILL: nothing in between may catch it."""


def test_a_second_call_decodes_only_what_is_missing(
    run_dir: Path, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.jsonl"
    decompose_file(run_dir, questions, tmp_path / "whole.jsonl", batch_size=2)
    decoded: list[int] = []
    stream_ids = LoadedRun.stream_ids

    def dying(run: LoadedRun, prompts: Any, **options: Any) -> Iterator[tuple[int, Answer]]:
        for number, answer in stream_ids(run, prompts, **options):
            if len(decoded) == 3:
                raise Killed
            decoded.append(number)
            yield number, answer

    monkeypatch.setattr(LoadedRun, "stream_ids", dying)
    with pytest.raises(Killed):
        decompose_file(run_dir, questions, output, batch_size=2)
    assert not output.exists() and answer_log_path(output).exists()
    answer_log_path(output).write_bytes(answer_log_path(output).read_bytes() + b'{"index": 4, "te')
    decoded.clear()
    decompose_file(run_dir, questions, output, batch_size=1)
    assert len(decoded) == 2  # of five different questions
    assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert "resuming after 3 answers" in capsys.readouterr().err and not answer_log_path(output).exists()


def test_answers_to_another_file_are_not_used(
    run_dir: Path, questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.jsonl"
    answer = {"index": 0, "text": "1. foreign", "stopped": True, "tokens": 3}
    settings = {"constrained": False, "engine": "transformers", "merge": True}
    identity = {"run": "other", "input": "other", "settings": settings}
    answer_log_path(output).write_text(f"{json.dumps(identity)}\n{json.dumps(answer)}\n", encoding="utf-8")
    decompose_file(run_dir, questions, output)
    assert "made with different values of input, run; it is discarded" in capsys.readouterr().err
    assert "foreign" not in output.read_text(encoding="utf-8")


def test_a_question_that_does_not_fit_into_memory_is_named(
    run_dir: Path, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import LlamaForCausalLM

    generate = LlamaForCausalLM.generate
    prompts = load_prompts(run_dir).encode([[{"role": "user", "content": question}] for question in QUESTIONS])
    lengths = sorted(map(len, prompts))

    def small(self: Any, **options: Any) -> Any:
        if options["input_ids"].shape[1] > lengths[-2]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return generate(self, **options)

    monkeypatch.setattr(LlamaForCausalLM, "generate", small)
    report = decompose_file(run_dir, questions, tmp_path / "out.jsonl", batch_size=3)
    assert report.written == 5 and [error.source for error in report.refused] == [f"{questions}:5"]
    assert "do not fit into memory; shorten the question" in report.refused[0].message


def test_an_adapter_is_merged_for_many_questions_and_not_for_few(
    tiny_model: Callable[[str], Path], questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = make_run(tmp_path / "run", tiny_model("llama"), lora_scale=0.1)
    loaded: list[str] = []
    for name in ("load_weights", "load_merged"):
        load = getattr(stage, name)

        def counting(run: RunPrompts, load: Any = load, name: str = name) -> LoadedRun:
            loaded.append(name)
            result: LoadedRun = load(run)
            return result

        monkeypatch.setattr(stage, name, counting)
    decompose_file(run_dir, questions, tmp_path / "few.jsonl")
    monkeypatch.setattr(stage, "MERGE_FROM", 5)
    decompose_file(run_dir, questions, tmp_path / "many.jsonl")
    decompose_file(run_dir, questions, tmp_path / "apart.jsonl", merge=False)
    assert loaded == ["load_weights", "load_merged", "load_weights"]
    assert len({(tmp_path / f"{name}.jsonl").read_bytes() for name in ("few", "many", "apart")}) == 1


def test_vllm_is_given_the_questions_and_its_answers_are_written(
    run_dir: Path, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []

    def stream_ids(run: Any, prompts: Any) -> Iterator[tuple[int, Answer]]:
        given.extend(prompts)
        return iter([(index, Answer(f"1. {len(ids)}", True, 3)) for index, ids in enumerate(prompts)])

    monkeypatch.setattr("qdsft.inference.vllm_engine.stream_ids", stream_ids)
    monkeypatch.setattr("qdsft.inference.vllm_engine.check_installed", lambda: None)
    decompose_file(run_dir, questions, tmp_path / "out.jsonl", engine="vllm")
    assert len(given) == 5 and len(rows_of(tmp_path / "out.jsonl")) == 6
    with pytest.raises(UserError, match="--constrained works with --engine transformers alone"):
        decompose_file(run_dir, questions, tmp_path / "other.jsonl", engine="vllm", constrained=True)


@pytest.mark.slow
def test_a_killed_process_loses_nothing(run_dir: Path, tmp_path: Path) -> None:
    source = tmp_path / "q.txt"
    source.write_text("".join(f"질문 {n} {'x ' * (n % 7)}?\n" for n in range(400)), encoding="utf-8")
    output = tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "qdsft", "decompose", str(run_dir), "--input", str(source)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, "--output", str(output), "--batch-size", "2"], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if answer_log_path(output).exists() and answer_log_path(output).read_bytes().count(b"\n") > 20:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and not output.exists()
    kept = answer_log_path(output).read_bytes().count(b"\n") - 1
    done = subprocess.run(
        [*command, "--output", str(output), "--batch-size", "32"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0 and f"resuming after {kept} answers" in done.stderr and kept >= 20
    assert done.stdout.startswith(f"400 answers written to {output}, 0 left out, ")
    decompose_file(run_dir, source, tmp_path / "whole.jsonl", batch_size=16)
    assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "q.txt", "whole.jsonl"]
