"""`qdsft data convert`: formats on offer, output and losses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qdsft.cli.main import main

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_formats_on_offer(capsys: Capture) -> None:
    for option in ("--from", "--to"):
        with pytest.raises(SystemExit):
            main(["data", "convert", option, "nothing"])
    error = capsys.readouterr().err
    assert all(f"'{name}'" in error or name in error for name in ("jsonl", "csv", "break", "strategyqa", "musique"))
    assert all(name in error for name in ("self-ask", "llamaindex", "qdmr", "dag", "mermaid"))


def test_data_convert_says_what_is_lost(capsys: Capture) -> None:
    row = {"question": "Late?", "sub_questions": ["When?", "Is #1 late?"], "qid": "1"}
    Path("in.jsonl").write_text(json.dumps(row), encoding="utf-8")
    arguments = ["--from", "jsonl", "--to", "llamaindex", "--tool-name", "wiki", "in.jsonl", "out.jsonl"]
    assert main(["data", "convert", *arguments]) == 0
    out, err = capsys.readouterr()
    assert out == "1 rows written to out.jsonl, 0 dropped\n"
    assert err.splitlines() == [
        "lost: references between steps become phrases, which cannot be undone",
        "lost: llamaindex does not keep the columns qid (1 rows)",
    ]
    written = json.loads(Path("out.jsonl").read_text(encoding="utf-8"))
    assert written["items"][1] == {"sub_question": "Is the answer to “When?” late?", "tool_name": "wiki"}
