"""Text of others reaches the terminal without its control sequences."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qdsft.cli.main import main
from qdsft.console import is_main_process, print_result, say, standard_output, visible
from qdsft.errors import UserError

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


def test_a_user_error_is_one_line() -> None:
    assert str(UserError("a\nb  c")) == "a b c"
