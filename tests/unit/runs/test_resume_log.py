"""A log of a killed process is used again, and no other log is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from helpers.paths import ROOT

from qdsft.errors import UserError
from qdsft.runs.layout import decoded_log_path, decoded_log_paths
from qdsft.runs.resume_log import open_log, read_log

IDENTITY = {"run": "r", "input": "i", "settings": {"constrained": False}}
REMEDY = "choose another output"
Capture = pytest.CaptureFixture[str]


@dataclass(frozen=True)
class Answer:
    text: str
    tokens: int = 3


class Killed(BaseException):
    """Stands for SIGKILL: no code between may catch it."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


def write(path: Path, answers: dict[int, str], identity: dict[str, Any] = IDENTITY) -> bytes:
    """Return the content of the log when a process is killed after these answers."""
    content = b""
    with pytest.raises(Killed), open_log(path, identity, Answer, remedy=REMEDY) as log:
        for index, text in answers.items():
            log.add(index, Answer(text))
            content = path.read_bytes()
        raise Killed
    return content


def resumed(path: Path, identity: dict[str, Any] = IDENTITY) -> dict[int, str]:
    with open_log(path, identity, Answer, remedy=REMEDY) as log:
        return {index: answer.text for index, answer in log.results.items()}


def test_results_survive_until_the_log_is_deleted(path: Path, capsys: Capture) -> None:
    content = write(path, {5: "서울\nb", 2: "a"})
    assert [json.loads(line) for line in content.splitlines()] == [
        IDENTITY,
        {"index": 5, **asdict(Answer("서울\nb"))},
        {"index": 2, **asdict(Answer("a"))},
    ]
    assert resumed(path) == {5: "서울\nb", 2: "a"} and path.read_bytes() == content
    assert read_log(path, IDENTITY, Answer) == {5: Answer("서울\nb"), 2: Answer("a")}
    assert capsys.readouterr().err == ""
    with open_log(path, IDENTITY, Answer, remedy=REMEDY) as log:
        log.delete()
    assert not path.exists() and read_log(path, IDENTITY, Answer) == {}


def test_a_result_is_in_the_file_when_add_returns(path: Path) -> None:
    with open_log(path, IDENTITY, Answer, remedy=REMEDY) as log:
        log.add(3, Answer("a"))
        assert read_log(path, IDENTITY, Answer) == {3: Answer("a")}


def test_sigkill_loses_nothing(path: Path) -> None:
    code = (
        "import os, signal, sys\nfrom dataclasses import dataclass\nfrom pathlib import Path\n"
        "from qdsft.runs.resume_log import open_log\n"
        "@dataclass\nclass Answer:\n    text: str\n"
        "with open_log(Path(sys.argv[1]), {'a': 1}, Answer, remedy='') as log:\n"
        "    for n in range(50): log.add(n, Answer('한' * n))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, env={**os.environ}, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert read_log(path, {"a": 1}, Answer) == {n: Answer("한" * n) for n in range(50)}


def test_a_last_line_cut_anywhere_is_dropped(path: Path) -> None:
    whole = write(path, {0: "first", 1: "둘째 and longer"})
    second = whole.index(b'{"index": 1')
    for cut in range(second, len(whole)):  # also inside Korean letters
        path.write_bytes(whole[:cut])
        assert read_log(path, IDENTITY, Answer).keys() == {0}
        with open_log(path, IDENTITY, Answer, remedy=REMEDY) as log:
            assert log.results == {0: Answer("first")} and path.read_bytes() == whole[:second]
            log.add(1, Answer("둘째 and longer"))
        assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "damage", [b"\x00\x00\n", b"[1]\n", b'{"index": 4}\n', b'{"index": "x", "text": "t"}\n', b"\xff\n", b"7\n"]
)
def test_nothing_after_a_damaged_line_is_used(path: Path, damage: bytes) -> None:
    whole = write(path, {0: "a", 1: "b"})
    first, second, third = whole.splitlines(keepends=True)
    path.write_bytes(first + second + damage + third)
    assert resumed(path) == {0: "a"} and path.read_bytes() == first + second


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({**IDENTITY, "input": "x"}, "holds answers that were made with different values of input; it is discarded"),
        ({**IDENTITY, "run": "x", "settings": {}}, "different values of run, settings; it is discarded"),
        ({**IDENTITY, "more": 1}, "different values of more; it is discarded"),
    ],
)
def test_results_of_another_identity_are_discarded(
    path: Path, capsys: Capture, other: dict[str, Any], message: str
) -> None:
    write(path, {0: "foreign"}, other)
    assert capsys.readouterr().err == "" and read_log(path, IDENTITY, Answer) == {}
    assert write(path, {1: "own"}).count(b"\n") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"{path}: ") and message in error
    assert resumed(path) == {1: "own"}


@pytest.mark.parametrize("content", [b"\x89PNG\x00\n\n", b"[1]\n2\n", b'{"run": "r"', b"\xff"])
def test_a_file_that_is_no_log_is_discarded(path: Path, capsys: Capture, content: bytes) -> None:
    path.write_bytes(content)
    assert read_log(path, IDENTITY, Answer) == {} and resumed(path) == {}
    assert "it is discarded" in capsys.readouterr().err


def test_a_log_without_results_is_deleted(path: Path) -> None:
    write(path, {})
    assert not path.exists()


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(UserError, match=r"cannot be written: .*; free some space or choose another output"):
        resumed(tmp_path / "file" / "log")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a file that is always full")
def test_a_full_disk_is_an_error_with_the_remedy(tmp_path: Path) -> None:
    with (
        Path("/dev/full").open("r+b", buffering=0) as full,
        open_log(tmp_path / "log", IDENTITY, Answer, remedy=REMEDY) as log,
    ):
        log._file.close()
        log._file = full
        with pytest.raises(UserError, match="No space left on device; free some space or choose another output"):
            log.add(0, Answer("a"))


def test_the_logs_of_all_processes_of_one_model_are_found(tmp_path: Path) -> None:
    for rank, model in ((0, "tuned"), (1, "tuned"), (0, "baseline")):
        write(decoded_log_path(tmp_path, model, rank), {rank: model})
    found = [read_log(path, IDENTITY, Answer) for path in decoded_log_paths(tmp_path, "tuned")]
    assert found == [{0: Answer("tuned")}, {1: Answer("tuned")}]


def test_a_log_of_another_identity_is_kept_without_replace(path: Path) -> None:
    content = write(path, {0: "dear"}, {**IDENTITY, "input": "x"})
    with (
        pytest.raises(UserError, match=f"different values of input; {REMEDY}"),
        open_log(path, IDENTITY, Answer, remedy=REMEDY, replace=False),
    ):
        pass
    assert path.read_bytes() == content
