"""`qdsft data synth` as people meet it: output, refusals, pipes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.paths import ROOT

from qdsft.cli.main import main
from qdsft.data.synth import generate

ENGLISH = ("data", "synth", "--language", "en", "--seed", "5")

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def shell(command: str) -> subprocess.CompletedProcess[str]:
    """Run a line of shell in which `synth` makes rows in Korean."""
    line = f'synth() {{ "{sys.executable}" -m qdsft data synth --language ko --seed 1 "$@"; }}\n{command}'
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LC_ALL": "C"}
    return subprocess.run(["bash", "-c", line], env=environment, capture_output=True, encoding="utf-8", timeout=60)


def refused(capsys: Capture, *arguments: str) -> str:
    assert main(arguments) == 1
    output, error = capsys.readouterr()
    assert output == ""
    assert error.count("\n") == 1 and error.startswith("error: ")
    return error.removeprefix("error: ").rstrip("\n")


def test_rows_go_to_standard_output_or_to_a_file(capsys: Capture) -> None:
    assert main([*ENGLISH, "--rows", "30"]) == 0
    printed = capsys.readouterr().out
    assert [json.loads(line) for line in printed.splitlines()] == list(generate("en", 30, 5))
    assert main([*ENGLISH, "--rows", "30", "--output", "new/folder/out.jsonl"]) == 0
    output, error = capsys.readouterr()
    assert (output, error) == ("", "30 rows written to new/folder/out.jsonl\n")
    assert Path("new/folder/out.jsonl").read_text(encoding="utf-8") == printed
    assert os.listdir("new/folder") == ["out.jsonl"]


def test_an_existing_output_is_kept(capsys: Capture) -> None:
    Path("out.jsonl").write_text("mine", encoding="utf-8")
    assert refused(capsys, *ENGLISH, "--rows", "3", "--output", "out.jsonl") == (
        "out.jsonl exists; delete it or choose another name"
    )
    assert Path("out.jsonl").read_text(encoding="utf-8") == "mine"
    Path("link.jsonl").symlink_to("nowhere")
    assert "link.jsonl exists" in refused(capsys, *ENGLISH, "--rows", "3", "--output", "link.jsonl")
    assert "is a folder" in refused(capsys, *ENGLISH, "--rows", "3", "--output", ".")


def test_an_output_that_cannot_be_written_is_one_line(capsys: Capture) -> None:
    Path("file").write_text("", encoding="utf-8")
    message = refused(capsys, *ENGLISH, "--rows", "3", "--output", "file/out.jsonl")
    assert message.startswith("file/out.jsonl: cannot be written: ")
    message = refused(capsys, *ENGLISH, "--rows", "3", "--output", "x" * 300)
    assert "cannot be written: File name too long" in message
    assert os.listdir() == ["file"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("0", "rows is 0; ask for at least 1"),
        ("-7", "rows is -7; ask for at least 1"),
        ("99999999", "rows is 99999999, but there are only 1049988 distinct questions in en; ask for fewer"),
    ],
)
def test_a_wrong_number_of_rows_is_one_line(capsys: Capture, rows: str, message: str) -> None:
    assert refused(capsys, *ENGLISH, f"--rows={rows}", "--output", "out.jsonl") == message
    assert os.listdir() == []


@pytest.mark.parametrize("language", ["fr", "en,fr", "", "EN"])
def test_an_unknown_language_is_one_line(capsys: Capture, language: str) -> None:
    message = refused(capsys, "data", "synth", "--language", language, "--rows", "4", "--seed", "0")
    assert message == f"there is no language {language.split(',')[-1]!r}; choose one of: en, ko"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--language", "en", "--rows", "many", "--seed", "0"),
        ("--language", "en", "--rows", "1", "--seed", "0.5"),
        ("--language", "en", "--rows", "1"),
        ("--rows", "1", "--seed", "0"),
    ],
)
def test_wrong_usage_ends_with_two(capsys: Capture, arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["data", "synth", *arguments])
    assert caught.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_a_reader_that_stops_is_no_error() -> None:
    done = shell("synth --rows 100000 | head -n 2; echo ${PIPESTATUS[0]}")
    *rows, status = done.stdout.splitlines()
    assert [json.loads(row) for row in rows] == list(generate("ko", 2, 1))
    assert (status, done.stderr) == ("0", "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_full_disk_is_one_line() -> None:
    for rows in (1, 5000):  # found when flushed at the end, and on the way
        done = shell(f"synth --rows {rows} > /dev/full")
        assert (done.returncode, done.stderr) == (
            1,
            "error: standard output cannot be written: No space left on device\n",
        )


def test_an_interrupted_run_leaves_no_file() -> None:
    command = [sys.executable, "-m", "qdsft", *ENGLISH, "--rows", "900000", "--output", "out.jsonl"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, encoding="utf-8") as running:
        deadline = time.monotonic() + 60
        while not os.listdir() and time.monotonic() < deadline:
            time.sleep(0.02)
        running.send_signal(signal.SIGINT)
        assert running.communicate(timeout=60)[1] == "interrupted\n"
    assert (running.returncode, os.listdir()) == (130, [])


def test_nothing_heavy_is_loaded() -> None:
    code = (
        "import sys; from qdsft.cli.main import main\n"
        "main(['data', 'synth', '--language', 'ko', '--rows', '1', '--seed', '0'])\n"
        "assert not {'torch', 'transformers', 'pyarrow', 'datasets'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, timeout=60)


def test_two_languages_take_turns_and_long_questions_can_be_left_out(capsys: Capture) -> None:
    assert main(["data", "synth", "--language", "en,ko", "--rows", "41", "--seed", "5", "--max-steps", "2"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["language"] for row in rows] == ["en", "ko"] * 20 + ["en"]
    assert all(len(row["sub_questions"]) <= 2 for row in rows)
    short = [row for row in generate("en", 2_000, 5) if len(row["sub_questions"]) <= 2]
    assert [row for row in rows if row["language"] == "en"] == short[:21]
    assert refused(capsys, *ENGLISH, "--rows", "3", "--max-steps", "0") == "max_steps is 0; ask for at least 1"
    unknown = refused(capsys, "data", "synth", "--language", "en,fr", "--seed", "5", "--rows", "3")
    assert unknown == "there is no language 'fr'; choose one of: en, ko"
    assert "is given twice" in refused(capsys, "data", "synth", "--language", "en,en", "--seed", "5", "--rows", "3")
