"""What a killed process leaves is used again, and nothing else is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qdsft.errors import UserError
from qdsft.runs.answer_log import answer_log, log_path

IDENTITY = {"run": "r", "input": "i", "settings": {"constrained": False}}
Capture = pytest.CaptureFixture[str]


class Killed(BaseException):
    """Stands for SIGKILL: nothing in between may catch it."""


def interrupted(output: Path, answers: dict[int, str], identity: dict[str, Any] = IDENTITY) -> bytes:
    """The log as a process leaves it that was killed behind these answers."""
    kept = b""
    with pytest.raises(Killed), answer_log(output, identity) as log:
        for index, text in answers.items():
            log.add(index, {"text": text})
            kept = log_path(output).read_bytes()  # what SIGKILL would leave
        raise Killed
    return kept


def resumed(output: Path, identity: dict[str, Any] = IDENTITY) -> dict[int, dict[str, Any]]:
    with answer_log(output, identity) as log:
        return dict(log.answers)


def test_answers_survive_and_the_log_goes_at_the_end(tmp_path: Path, capsys: Capture) -> None:
    output = tmp_path / "new" / "out.jsonl"
    kept = interrupted(output, {5: "서울\nb", 2: "a"})
    assert json.loads(kept.splitlines()[0]) == IDENTITY
    assert log_path(output).read_bytes() == kept and not output.exists()
    assert resumed(output) == {5: {"text": "서울\nb"}, 2: {"text": "a"}}
    assert "going on behind 2 answers" in capsys.readouterr().err
    assert list(output.parent.iterdir()) == []


@pytest.mark.parametrize("torn", [1, 5, 20])
def test_a_torn_last_line_is_dropped(tmp_path: Path, torn: int) -> None:
    output = tmp_path / "out.jsonl"
    kept = interrupted(output, {0: "first", 1: "second and longer"})
    log_path(output).write_bytes(kept[:-torn])
    with pytest.raises(Killed), answer_log(output, IDENTITY) as log:
        assert log.answers == {0: {"text": "first"}}
        log.add(1, {"text": "second again"})
        raise Killed
    assert resumed(output) == {0: {"text": "first"}, 1: {"text": "second again"}}


def test_a_torn_first_line_is_no_log(tmp_path: Path, capsys: Capture) -> None:
    output = tmp_path / "out.jsonl"
    log_path(output).write_bytes(interrupted(output, {0: "a"})[:10])
    assert resumed(output) == {}
    assert "holds no answers of this command; it is discarded" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({**IDENTITY, "input": "x"}, "holds answers that were made with another input; it is discarded"),
        ({**IDENTITY, "run": "x", "settings": {}}, "made with another run and settings; it is discarded"),
        ({**IDENTITY, "more": 1}, "made with another version; it is discarded"),
    ],
)
def test_answers_to_something_else_are_discarded_aloud(
    tmp_path: Path, capsys: Capture, other: dict[str, Any], said: str
) -> None:
    output = tmp_path / "out.jsonl"
    interrupted(output, {0: "foreign"}, other)
    capsys.readouterr()
    assert interrupted(output, {1: "own"}).count(b"\n") == 2
    assert said in capsys.readouterr().err
    assert resumed(output) == {1: {"text": "own"}}


@pytest.mark.parametrize("content", [b"\x89PNG\x00\n\n", b"[1]\n2\n", b"{}\n"])
def test_a_file_that_is_no_log_is_discarded_aloud(tmp_path: Path, capsys: Capture, content: bytes) -> None:
    output = tmp_path / "out.jsonl"
    log_path(output).write_bytes(content)
    assert resumed(output) == {}
    assert "it is discarded" in capsys.readouterr().err


def test_nothing_is_left_where_nothing_was_answered(tmp_path: Path) -> None:
    interrupted(tmp_path / "out.jsonl", {})
    assert list(tmp_path.iterdir()) == []


def test_two_processes_do_not_write_one_output(tmp_path: Path) -> None:
    with (
        answer_log(tmp_path / "o", IDENTITY),
        pytest.raises(UserError, match="another process is writing it; wait for it"),
        answer_log(tmp_path / "o", IDENTITY),
    ):
        pass


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(UserError, match=r"cannot be written: .*; free some space or choose another output"):
        resumed(tmp_path / "file" / "out.jsonl")
