"""`qdsft data check` and `qdsft data stats` as they are met: output, status, and what is left on disk."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pytest
from helpers.paths import ROOT, TEST_DATA
from pyarrow import parquet

from qdsft.cli.main import main
from qdsft.data.readers import stream_records

GOOD = {"question": "Which river of Seoul is longest?", "sub_questions": ["Which rivers?", "Which of #1?"], "id": 7}
BAD = {"question": "a?", "sub_questions": ["b?", "#3"]}
ODD = {"question": "c?", "sub_questions": ["d?"]}

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def lines(name: str, *rows: dict[str, Any]) -> None:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_the_text_that_is_printed(capsys: Capture) -> None:
    lines("d.jsonl", GOOD, BAD, ODD)
    assert main(["data", "check", "d.jsonl"]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    text = out.splitlines()
    assert text[0] == (
        "d.jsonl:2: error: sub_questions: step 2 refers to #3, but there are 2 steps; correct or remove the row"
    )
    assert text[1] == "d.jsonl:2: warning: no later step uses step 1; refer to it as #n or remove it"
    assert text[2] == "d.jsonl:3: warning: there is one step only; split the question, or remove the row"
    assert [line.split() for line in text[4:]] == [
        ["kind", "count"],
        ["error", "dangling", "reference", "1"],
        ["warning", "unused", "step", "1"],
        ["warning", "one", "step", "only", "1"],
        [],
        ["rows", "3"],
        ["clean", "1", "33.3%"],
        ["unusable", "1", "33.3%"],
        ["with", "warnings", "1", "33.3%"],
        ["seconds", text[-1].split()[1]],
    ]


def test_many_problems_of_a_kind_are_cut_short(capsys: Capture) -> None:
    lines("d.jsonl", *({**BAD, "question": f"{n}?"} for n in range(30)), ODD)
    assert main(["data", "check", "d.jsonl"]) == 1
    out = capsys.readouterr().out
    assert out.count(": error: ") == 20 and out.count("one step only; ") == 1
    assert "10 more than shown; --all shows them" in out
    assert main(["data", "check", "d.jsonl", "--all"]) == 1
    out = capsys.readouterr().out
    assert out.count(": error: ") == 30 and "more than shown" not in out


@pytest.mark.parametrize(
    ("rows", "plain", "strict"), [([GOOD], 0, 0), ([GOOD, ODD], 0, 1), ([GOOD, BAD], 1, 1), ([], 1, 1)]
)
def test_the_status(rows: list[dict[str, Any]], plain: int, strict: int, capsys: Capture) -> None:
    lines("d.jsonl", *rows)
    assert main(["data", "check", "d.jsonl"]) == plain
    assert main(["data", "check", "d.jsonl", "--strict"]) == strict
    assert main(["data", "check", "d.jsonl", "--json"]) == plain


def test_wrong_usage(capsys: Capture) -> None:
    for arguments, message in (
        ([], "name a FILE, or a recipe with --recipe"),
        (["d", "--from", "x"], "invalid choice"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(["data", "check", *arguments])
        assert caught.value.code == 2
        assert message in capsys.readouterr().err


def test_json_is_one_document_with_everything(capsys: Capture) -> None:
    lines("d.jsonl", GOOD, *({**BAD, "question": f"{n} 한?"} for n in range(30)))
    lines("e.jsonl", ODD)
    assert main(["data", "check", "d.jsonl", "--eval", "e.jsonl", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report.keys() == {"problems", "counts", "rows", "notes", "seconds"}
    assert report["rows"] == {"total": 32, "clean": 1, "unusable": 30, "with_warnings": 1}
    assert report["counts"] == {"error": {"dangling reference": 30}, "warning": {"unused step": 30, "one step only": 1}}
    assert len(report["problems"]) == 61
    assert report["problems"][1] == {
        "level": "error",
        "kind": "dangling reference",
        "source": "d.jsonl:2",
        "message": "sub_questions: step 2 refers to #3, but there are 2 steps; correct or remove the row",
    }
    assert report["notes"][0].startswith("near-duplicates of e.jsonl: Jaccard similarity of at least 0.8")
    lines("d.jsonl", GOOD)
    assert main(["data", "check", "d.jsonl", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["problems"] == []


def test_clean_rows_are_written_with_all_columns(capsys: Capture) -> None:
    lines("a.jsonl", GOOD, BAD, {**ODD, "question": "한\u2028?"})
    lines("b.jsonl", {"question": ""}, GOOD)
    assert main(["data", "check", "a.jsonl", "b.jsonl", "--write-clean", "new/out.jsonl"]) == 1
    err = capsys.readouterr().err
    assert err == "new/out.jsonl: 3 rows written, 2 dropped: 1 dangling reference, 1 question missing or empty\n"
    assert [record.row for record in stream_records(Path("new/out.jsonl"))] == [
        GOOD,
        {**ODD, "question": "한\u2028?"},
        GOOD,
    ]
    assert main(["data", "check", "new/out.jsonl"]) == 0


def test_dates_of_parquet_are_written_as_text_and_bytes_are_refused(capsys: Capture) -> None:
    parquet.write_table(arrow.Table.from_pylist([{**GOOD, "day": date(2024, 2, 29)}]), "d.parquet")
    assert main(["data", "check", "d.parquet", "--write-clean", "out.jsonl"]) == 0
    assert next(stream_records(Path("out.jsonl"))).row == {**GOOD, "day": "2024-02-29"}
    parquet.write_table(arrow.Table.from_pylist([{**GOOD, "raw": None}, {**GOOD, "raw": b"x"}]), "d.parquet")
    assert main(["data", "check", "d.parquet", "--write-clean", "other.jsonl"]) == 1
    assert "error: d.parquet:2: the row cannot be written as JSON: bytes cannot be" in capsys.readouterr().err
    assert not Path("other.jsonl").exists()


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("there.jsonl", "there.jsonl exists; delete it or choose another name"),
        ("./d.jsonl", "d.jsonl is one of the files to check; choose another name"),
        ("e.jsonl", "e.jsonl is one of the files to check; choose another name"),
        ("out.csv", "out.csv: the output is JSON Lines; choose a name that ends in .jsonl"),
        ("/proc/nope/out.jsonl", "/proc/nope/out.jsonl: cannot be written"),
    ],
)
def test_a_target_that_is_refused(target: str, message: str, capsys: Capture) -> None:
    for name in ("d.jsonl", "e.jsonl", "there.jsonl"):
        lines(name, GOOD)
    before = sorted(Path().iterdir()), Path("there.jsonl").read_bytes()
    assert main(["data", "check", "d.jsonl", "--eval", "e.jsonl", "--write-clean", target]) == 1
    assert capsys.readouterr().err.startswith(f"error: {message}")
    assert (sorted(Path().iterdir()), Path("there.jsonl").read_bytes()) == before


def test_no_usable_row_leaves_no_file(capsys: Capture) -> None:
    lines("d.jsonl", BAD)
    assert main(["data", "check", "d.jsonl", "--write-clean", "out.jsonl"]) == 1
    out, err = capsys.readouterr()
    assert "dangling reference" in out and err == "error: out.jsonl is not written: no row is usable\n"
    assert sorted(Path().iterdir()) == [Path("d.jsonl")]


@pytest.mark.slow
def test_a_reader_that_goes_away_leaves_no_half_file() -> None:
    lines("d.jsonl", *({**BAD, "question": f"{n}?"} for n in range(20_000)), GOOD)
    command = f"'{sys.executable}' -m qdsft data check d.jsonl --all --write-clean out.jsonl | head -n 1"
    done = subprocess.run(["bash", "-c", command], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.stdout.startswith("d.jsonl:1: error: ") and done.stderr == ""
    assert sorted(Path().iterdir()) == [Path("d.jsonl")]


def test_other_formats(capsys: Capture) -> None:
    Path("s.json").write_text(json.dumps([{"question": "a?", "decomposition": ["b?", "#1"]}, {"question": "c?"}]))
    assert main(["data", "check", "--from", "strategyqa", "s.json", "--write-clean", "out.jsonl"]) == 1
    assert "s.json:1: error: the field 'decomposition' is missing" in capsys.readouterr().out
    assert [record.row for record in stream_records(Path("out.jsonl"))] == [
        {"question": "a?", "sub_questions": ["b?", "#1"]}
    ]


@pytest.mark.parametrize(
    ("source_format", "name", "rows", "unusable"),
    [
        ("break", "break/QDMR.csv", 5862, 2),
        ("break", "break/QDMR-high-level.csv", 2375, 1),
        ("strategyqa", "strategyqa/train.json", 2061, 0),
    ],
)
def test_real_data_is_nearly_clean(source_format: str, name: str, rows: int, unusable: int, capsys: Capture) -> None:
    if not (TEST_DATA / name).is_file():
        pytest.skip(f"there is no {TEST_DATA / name}")
    main(["data", "check", "--from", source_format, str(TEST_DATA / name), "--json"])
    report = json.loads(capsys.readouterr().out)
    assert (report["rows"]["total"], report["rows"]["unusable"]) == (rows, unusable)
    assert report["seconds"] < 30
    # These three guess at meaning, and there is nothing of the kind in this data.
    assert not {"two questions in one step", "another language", "lost character"} & report["counts"]["warning"].keys()


# stats


def test_stats_in_numbers(capsys: Capture) -> None:
    lines("d.jsonl", GOOD, ODD, BAD, {"question": "한국어 질문?", "sub_questions": [f"{n}?" for n in range(14)]})
    assert main(["data", "stats", "d.jsonl", "--json"]) == 0
    stats = json.loads(capsys.readouterr().out)
    assert stats["rows"] == 3 and stats["unusable"] == 1 and stats["with_references"] == 1
    assert stats["steps_per_row"] == {
        "histogram": {"1": 1, "2": 1, "14": 1},
        "min": 1,
        "median": 2,
        "p95": 14,
        "max": 14,
    }
    assert stats["scripts"] == {"Latin script": 2, "Hangul": 1}
    assert main(["data", "stats", "d.jsonl"]) == 0
    out = capsys.readouterr().out
    assert "more than 12" in out and "qdsft data check lists them" in out


def test_stats_of_nothing(capsys: Capture) -> None:
    lines("d.jsonl", BAD)
    assert main(["data", "stats", "d.jsonl"]) == 0
    assert main(["data", "stats", "d.jsonl", "--json"]) == 0
    assert main(["data", "stats", "d.jsonl", "--picture", "p.png"]) == 1
    assert main(["data", "stats", "gone.jsonl"]) == 1
    assert "gone.jsonl: No such file" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "start"), [("p.png", b"\x89PNG"), ("p.svg", b"<?xml")])
def test_a_picture(name: str, start: bytes) -> None:
    lines("d.jsonl", GOOD, ODD)
    assert main(["data", "stats", "d.jsonl", "--picture", name]) == 0
    assert Path(name).read_bytes().startswith(start)
    assert sorted(Path().iterdir()) == [Path("d.jsonl"), Path(name)]


def test_a_picture_of_another_kind_is_refused(capsys: Capture) -> None:
    lines("d.jsonl", GOOD)
    assert main(["data", "stats", "d.jsonl", "--picture", "p.gif"]) == 1
    assert capsys.readouterr().err == "error: p.gif: a picture is a .png or .svg file; choose such a name\n"
