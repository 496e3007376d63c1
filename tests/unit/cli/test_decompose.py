"""`qdsft decompose` as people type it: what it prints, where, and with which exit status."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.tiny_run import make_run

import qdsft
from qdsft.cli.main import main
from qdsft.data.decomposition import Decomposition

pytest.importorskip("llguidance")
Capture = pytest.CaptureFixture[str]
QUESTION = "Who is older, Ada or Bo?"


@pytest.fixture(scope="module")
def run_dir(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_run(tmp_path_factory.mktemp("runs") / "run", tiny_model("llama")))


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_one_question_in_each_format(run_dir: str, capsys: Capture) -> None:
    steps = qdsft.Decomposer(run_dir, constrained=True)(QUESTION).steps
    printed = {}
    for fmt in ("text", "json", "self-ask", "llamaindex", "dag", "mermaid"):
        capsys.readouterr()
        assert main(["decompose", run_dir, "--constrained", "--format", fmt, QUESTION]) == 0
        printed[fmt], err = capsys.readouterr()
        assert "warning" not in err
    assert Decomposition.parse(printed["text"]).steps == steps
    answer = {"question": QUESTION, "sub_questions": list(steps), "valid": True}
    assert json.loads(printed["json"]) == answer
    assert [node["text"] for node in json.loads(printed["dag"])["nodes"]] == list(steps)
    assert len(json.loads(printed["llamaindex"])["items"]) == len(steps)
    assert printed["self-ask"].count("Follow up: ") == len(steps)
    assert printed["mermaid"].startswith("flowchart TD")
    assert main(["decompose", run_dir, QUESTION, "--constrained", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == answer


def test_an_invalid_answer_is_a_warning_or_has_no_form(run_dir: str, capsys: Capture) -> None:
    assert main(["decompose", run_dir, QUESTION]) == 0
    assert "warning: not a valid decomposition: line " in capsys.readouterr().err
    assert main(["decompose", run_dir, "--format", "dag", QUESTION]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.splitlines()[-1].endswith("; this has no dag form")


def test_typed_questions(run_dir: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("first?\n\nbad </s>\nsecond?\n"))
    assert main(["decompose", run_dir, "--json", "--constrained"]) == 0
    out, err = capsys.readouterr()
    assert [json.loads(line)["question"] for line in out.splitlines()] == ["first?", "second?"]
    assert "error: line 3: the text 'bad </s>'" in err


def test_a_file(run_dir: str, capsys: Capture) -> None:
    Path("q.txt").write_text("first?\nbad </s>\nsecond?\n", encoding="utf-8")
    assert main(["decompose", run_dir, "--input", "q.txt", "--output", "a.jsonl", "--constrained"]) == 0
    out, err = capsys.readouterr()
    assert out == "2 answers written to a.jsonl, 1 left out, 0 not valid, 2 cut off\n"
    assert "left out: q.txt:2: the text 'bad </s>' holds '</s>', which" in err
    rows = [json.loads(line) for line in Path("a.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["question"] for row in rows] == ["first?", "second?"]
    assert main(["decompose", run_dir, "--input", "q.txt", "--output", "a.jsonl"]) == 1
    assert capsys.readouterr().err == "error: a.jsonl exists; delete it or choose another name\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input", "q.txt"], "--input requires --output, the name of a new file for the answers"),
        (["--input", "q.txt", "--output", "a", "q?"], "a question and --input exclude each other; give one of"),
        (["--output", "a", "q?"], "--output requires a file of questions; add --input"),
        (["--batch-size", "2"], "--batch-size requires a file of questions; add --input"),
        (["--no-merge", "q?"], "--no-merge requires a file of questions; add --input"),
        (["--engine", "vllm", "q?"], "--engine requires a file of questions; add --input"),
        (["--json", "--format", "dag", "q?"], "--json and --format dag contradict each other; give one of them"),
        (["--input", "nope.txt", "--output", "a"], "nope.txt: No such file or directory (looked at /"),
        (["--input", ".", "--output", "a"], ".: Is a directory (looked at /"),
        (["--input", "q.txt", "--output", "."], ". is a folder; give the name of a file"),
        ([" "], "the question is empty; write it in quotes after the run directory"),
    ],
)
def test_user_errors_are_one_line(run_dir: str, capsys: Capture, arguments: list[str], message: str) -> None:
    Path("q.txt").write_text("a?\n", encoding="utf-8")
    assert main(["decompose", run_dir, *arguments]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith(f"error: {message}")
    assert [path.name for path in Path().iterdir()] == ["q.txt"]
