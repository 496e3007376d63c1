"""Text of others reaches the terminal without control sequences, and an error of a launch is printed once."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from qdsft.cli.main import main
from qdsft.console import is_main_process, print_error, print_result, say, standard_output, visible
from qdsft.errors import SharedError, UserError

CLEAR, TITLE, C1 = "\x1b[2J", "\x1b]0;owned\x07", "\x9b2J"
HOSTILE = f"{CLEAR}{TITLE}{C1}\r\x7f"
Capture = pytest.CaptureFixture[str]


def controls(text: str) -> set[str]:
    return {letter for letter in text if (ord(letter) < 32 or 127 <= ord(letter) < 160) and letter not in "\n\t"}


def test_controls_are_escaped_and_everything_else_is_not() -> None:
    assert visible("한국 é\tb\n") == "한국 é\tb\n"
    assert visible(CLEAR) == "\\u001b[2J" and visible(C1) == "\\u009b2J" and visible("a\rb\x7f") == "a\\u000db\\u007f"
    assert controls(visible("".join(map(chr, range(256))))) == set()


def test_json_stays_json() -> None:
    value = {HOSTILE: HOSTILE}
    assert json.loads(visible(json.dumps(value, ensure_ascii=False))) == value


def test_say_and_print_result(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    say(f"\n{HOSTILE}")
    print_result(HOSTILE)
    found = capsys.readouterr()
    assert controls(found.out + found.err) == set() and "owned" in found.out and found.err.startswith("\n")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    say("not the main process")
    assert capsys.readouterr().err == "" and not is_main_process()


def test_a_full_disk_is_a_user_error_and_a_closed_pipe_is_not() -> None:
    with pytest.raises(BrokenPipeError), standard_output():
        raise BrokenPipeError
    with pytest.raises(KeyError), standard_output():
        raise KeyError("x")


def rows(path: Path, question: str) -> Path:
    row = {
        "question": question,
        "gold": ["a"],
        "sub_questions": ["a"],
        "scores": {f"m{HOSTILE}": 1.0, "exact_match": 1.0},
    }
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    return path


def test_commands_print_no_control_sequence_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    named = Path("outputs") / f"run{TITLE}"
    named.mkdir(parents=True)
    (named / "run.json").write_text("{", encoding="utf-8")
    one, other = rows(Path(f"a{CLEAR}.jsonl"), HOSTILE), rows(Path("b.jsonl"), HOSTILE)
    changed = rows(Path("c.jsonl"), f"another{HOSTILE}")
    Path(f"r{CLEAR}.yaml").write_text(
        f'model:\n  name_or_path: m\n"key{C1}": 1\ndata: {{train: x}}\n', encoding="utf-8"
    )
    commands = [
        (["runs"], 0),
        (["runs", "--json"], 0),
        (["compare", str(one), str(other)], 0),
        (["compare", str(one), str(other), "--json"], 0),
        (["compare", str(one), str(changed)], 1),
        (["evaluate", str(named)], 1),
        (["recipe", f"r{CLEAR}.yaml"], 1),
        (["check", f"none{TITLE}.yaml"], 1),
    ]
    for command, status in commands:
        assert main(command) == status, command
        found = capsys.readouterr()
        assert controls(found.out + found.err) == set(), command
        assert "\\u00" in found.out + found.err, command


@pytest.mark.parametrize(
    "arguments", [["runs", "a", HOSTILE], ["runs", f"--{C1}"], [CLEAR], ["serve", "--port", HOSTILE]]
)
def test_wrong_usage_prints_no_control_sequence(arguments: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert controls(capsys.readouterr().err) == set()


def test_a_user_error_is_one_line() -> None:
    assert str(UserError("a\nb  c")) == "a b c"


def set_launch(monkeypatch: pytest.MonkeyPatch, rank: str, size: str) -> list[float]:
    waited: list[float] = []
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", size)
    monkeypatch.setattr(time, "sleep", waited.append)
    return waited


@pytest.mark.parametrize(
    ("rank", "size", "line", "waits"),
    [
        ("0", "1", "error: planted\n", []),
        ("0", "2", "error: planted\n", []),
        ("1", "2", "error: process 1 of 2: planted\n", [3.0]),
        ("3", "8", "error: process 3 of 8: planted\n", [4.0]),
        ("1", "", "error: planted\n", []),  # a variable that is left over, and no launch
        ("first", "2", "error: planted\n", []),
    ],
)
def test_processes_above_0_print_after_a_moment(
    rank: str,
    size: str,
    line: str,
    waits: list[float],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    waited = set_launch(monkeypatch, rank, size)
    print_error(UserError("planted"))
    assert (capsys.readouterr().err, waited) == (line, waits)


@pytest.mark.parametrize("rank", ["0", "1", "5"])
def test_an_error_of_all_processes_is_printed_by_the_first(
    rank: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waited = set_launch(monkeypatch, rank, "8")
    print_error(SharedError("planted"))
    assert capsys.readouterr().err == ("error: planted\n" if rank == "0" else "") and not waited
    assert is_main_process() is (rank == "0")


def test_progress_is_printed_by_the_first_process_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for rank in "01":
        set_launch(monkeypatch, rank, "2")
        say(f"of {rank}")
    assert capsys.readouterr().err == "of 0\n"
