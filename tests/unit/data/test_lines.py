"""Files that are no UTF-8 text are named, in one message, and small files do not take long to read."""

from __future__ import annotations

import gzip
import io
import json
import time
import zipfile
from pathlib import Path

import pyarrow as arrow
import pytest
from pyarrow import parquet

from qdsft.data import lines
from qdsft.data.readers import scan
from qdsft.data.record import Record, RowError

TABLE = "question,sub_questions\n" + "누가 먼저인가요?,누구인가요?\n" * 50
ROW = json.dumps({"question": "Q?", "sub_questions": ["A?"]})


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def found(name: str, content: bytes) -> list[str]:
    """The faults of a file as text; `row` for each row."""
    Path(name).write_bytes(content)
    return [str(row) if isinstance(row, RowError) else "row" for row in scan(Path(name))]


def workbook() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
    return file.getvalue()


def parquet_file() -> bytes:
    file = io.BytesIO()
    parquet.write_table(arrow.table({"question": ["a"]}), file)
    return file.getvalue()


CSV_UTF8 = 'save it as "CSV UTF-8"'
OLD_WORKBOOK = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600


@pytest.mark.parametrize(
    ("name", "content", "what", "remedy"),
    [
        ("d.xlsx", workbook(), "workbook", CSV_UTF8),
        ("d.csv", workbook(), "workbook", CSV_UTF8),
        ("d.csv.gz", gzip.compress(workbook()), "workbook", CSV_UTF8),
        ("d.xls", OLD_WORKBOOK, "workbook (.xls)", CSV_UTF8),
        ("d.csv", OLD_WORKBOOK, "workbook (.xls)", CSV_UTF8),
        ("d.xls", b"question\tsub_questions\na\tb\n", ".xls files are not read", CSV_UTF8),
        ("d.jsonl", gzip.compress(ROW.encode()), "gzip data", "add .gz to its name"),
        ("d.csv", gzip.compress(TABLE.encode()), "gzip data", "add .gz to its name"),
        ("d.jsonl", parquet_file(), "Parquet", "rename it"),
        ("d.csv", TABLE.encode("utf-16"), "UTF-16", CSV_UTF8),
        ("d.jsonl", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS", "git lfs pull"),
        ("d.jsonl", b"<!doctype html><html>", "a web page", "download the raw file"),
        ("d.csv", TABLE.replace("\n", "\r").encode(), "CR alone", CSV_UTF8),
        ("d.jsonl", f"{ROW}\r{ROW}\r".encode(), "CR alone", "convert the line ends"),
        ("d.tsv.gz", gzip.compress(TABLE.replace("\n", "\r").encode()), "CR alone", CSV_UTF8),
    ],
)
def test_a_file_of_another_kind_is_one_message(name: str, content: bytes, what: str, remedy: str) -> None:
    [fault] = found(name, content)
    assert fault.startswith(f"{name}: ") and what in fault and remedy in fault


def test_line_ends_of_all_kinds_are_read_where_they_are_clear() -> None:
    assert found("d.csv", TABLE.replace("\n", "\r\n").encode()) == ["row"] * 50
    assert found("d.json", f"[\r{ROW},\r{ROW}\r]".encode()) == ["row"] * 2


@pytest.mark.parametrize("name", ["d.csv", "d.tsv", "d.jsonl"])
def test_cp949_is_one_message(name: str) -> None:
    text = TABLE if name != "d.jsonl" else '{"question": "누가?"}\n' * 50
    [fault] = found(name, text.replace(",", "\t" if name == "d.tsv" else ",").encode("cp949"))
    assert (
        "not UTF-8 at byte" in fault and "CP949" in fault and 'save the file as UTF-8 (in Excel: "CSV UTF-8")' in fault
    )


def test_another_encoding_is_a_few_messages_and_a_damaged_line_hides_nothing() -> None:
    latin = "question,sub_questions\n" + "caf\xe9 \xfc?,b\n" * 50
    assert len(found("d.csv", latin.encode("latin-1"))) == 3
    lines = ['{"question": "가"}'.encode(), *[b'{"question": "\xea\xb0"}'] * 5, ROW.encode()]
    assert ["row" if row == "row" else "fault" for row in found("d.jsonl", b"\n".join(lines))] == [
        "row",
        *["fault"] * 5,
        "row",
    ]


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [
        ("d.jsonl", f"{ROW}\n\ufeff{ROW}\n{ROW}\n", 2),
        ("d.jsonl", f"{ROW}\ufeff{ROW}\n{ROW}\n", 1),
        ("d.jsonl", f"{ROW}\n\n \ufeff{ROW}\n{ROW}\n", 3),
        ("d.json", f"[{ROW}]\n\ufeff[{ROW}]\n", 1),
    ],
)
def test_a_byte_order_mark_in_mid_file(name: str, text: str, place: int) -> None:
    faults = [fault for fault in found(name, text.encode()) if fault != "row"]
    assert len(faults) == 1
    assert faults[0].startswith(f"{name}:{place}: a byte order mark (U+FEFF) in mid-file: files were joined")


def test_a_byte_order_mark_inside_a_text_is_text() -> None:
    assert found("d.jsonl", json.dumps({"question": "a\ufeffb"}, ensure_ascii=False).encode()) == ["row"]


def test_the_size_of_a_line_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LONGEST_LINE", 2**20)
    long = b'{"question": "' + b"a" * 2**21 + b'"}\n'
    for name, content in (
        ("d.jsonl", ROW.encode() + b"\n" + long),
        ("d.jsonl.gz", gzip.compress(ROW.encode() + b"\n" + long)),
        ("d.csv", b"question,sub_questions\n" + long),
        ("d.jsonl", ROW.encode() + b"\n" + b" " * 2**21),
    ):
        fault = found(name, content)[-1]
        assert fault.startswith(f"{name}:2: the line has over 1 MiB; write one row a line")
    monkeypatch.setattr(lines, "LARGEST_LIST", 2**20)
    [fault] = found("d.json.gz", gzip.compress(b"[" + long + b"]"))
    assert "write one object a line instead" in fault


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("name", ["d.jsonl", "d.jsonl.gz"])
def test_blank_lines_are_bounded(name: str, end: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MOST_BLANK_LINES", 10)
    for count in (10, 11):
        content = ROW.encode() + b"\n" + end * count + ROW.encode()
        [first, last] = found(name, gzip.compress(content) if name.endswith("gz") else content)
        fault = f"{name}:12: over 10 blank lines; remove them; the rest of the file is not read"
        assert (first, last) == ("row", "row" if count == 10 else fault)


def hostile() -> dict[str, bytes]:
    """Small files that took minutes, or would by an obvious algorithm."""
    half = 20_000
    twice = ", ".join(f'"k{number % half}": 1' for number in range(half + 1))
    return {
        "duplicate keys": b"{" + twice.encode() + b"}",
        "duplicate keys inside": b'{"a": [{' + twice.encode() + b"}]}",
        "leading blanks": b" " * 20_000_000 + ROW.encode(),
        "leading line breaks": b"\n" * 1_000_000 + ROW.encode(),
        "blanks in a list": b"[" + b" " * 20_000_000 + ROW.encode() + b" " * 20_000_000 + b"]",
        "many line breaks in a list": b"[" + (b"\n" * 1000 + ROW.encode() + b",") * 1000 + ROW.encode() + b"]",
    }


@pytest.mark.parametrize("kind", hostile())
def test_small_files_are_read_in_seconds(kind: str) -> None:
    Path("d.jsonl.gz").write_bytes(gzip.compress(hostile()[kind], 1))
    start = time.monotonic()
    rows = list(scan(Path("d.jsonl.gz")))
    assert rows and isinstance(rows[-1], RowError if "keys" in kind else Record)
    assert time.monotonic() - start < 20
