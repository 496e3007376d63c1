"""Every file format gives the same rows, and a fault does not hide the rows behind it."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pytest
from pyarrow import parquet

from qdsft.data.readers import scan
from qdsft.data.record import Record, RowError
from qdsft.errors import UserError

ROWS: list[dict[str, Any]] = [
    {"question": "Who, if any?", "sub_questions": ["A?", "Is #1 B?"]},
    {"question": '누가\n"그"를?', "sub_questions": ["누구, 언제?", "#1은?"]},
]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def table(steps: str, delimiter: str = ",") -> str:
    """ROWS under a header, the steps as a JSON list or one a line."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerow(["question", "sub_questions"])
    for row in ROWS:
        listed = row["sub_questions"]
        cell = json.dumps(listed, ensure_ascii=False) if steps == "json" else "\n".join(listed)
        writer.writerow([row["question"], cell])
    return out.getvalue()


def lines() -> str:
    return "".join(json.dumps(row) + "\n" for row in ROWS)


def found(path: Path) -> list[Any]:
    """Rows as they are, faults as their text."""
    return [row.row if isinstance(row, Record) else str(row) for row in scan(path)]


TEXTS = {
    "d.jsonl": lines(),
    "d.json": json.dumps(ROWS, indent=1),
    "d.csv": table("json"),
    "d.CSV": "\ufeff" + table("lines"),
    "d.tsv": table("json", "\t"),
}


@pytest.mark.parametrize("name", [*TEXTS, *(f"{name}.gz" for name in TEXTS), "d.parquet"])
def test_every_format_gives_the_same_rows(name: str) -> None:
    path = Path(name)
    if name == "d.parquet":
        parquet.write_table(arrow.Table.from_pylist(ROWS), name)
    elif name.endswith(".gz"):
        path.write_bytes(gzip.compress(TEXTS[name[:-3]].encode("utf-8")))
    else:
        path.write_bytes(TEXTS[name].encode("utf-8"))
    assert found(path) == ROWS


@pytest.mark.parametrize("name", ["d.jsonl", "d.csv", "d.csv.gz"])
def test_a_row_stands_where_an_editor_shows_it(name: str) -> None:
    text = TEXTS[name.removesuffix(".gz")]
    Path(name).write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    expected = [f"{name}:1", f"{name}:2"] if name == "d.jsonl" else [f"{name}:2", f"{name}:3"]
    assert [row.source for row in scan(Path(name))] == expected


def test_the_rows_of_a_csv_are_counted_as_a_spreadsheet_does() -> None:
    Path("d.csv").write_text('question,sub_questions\n"a\nb","c\nd"\n\ne,f\n', encoding="utf-8")
    assert [(row.source, row.row) for row in scan(Path("d.csv")) if isinstance(row, Record)] == [
        ("d.csv:2", {"question": "a\nb", "sub_questions": ["c", "d"]}),
        ("d.csv:4", {"question": "e", "sub_questions": ["f"]}),
    ]


def test_the_rows_after_a_fault_are_read() -> None:
    good = json.dumps(ROWS[0]).encode()
    bad = [b'{"a": NaN}', b'{"a": 1, "a": 2}', b'{"a": "\xff"}', b"{", b'{"a": 1e999}', b'"x"', b'{"a": "\\ud800"}']
    Path("d.jsonl").write_bytes(b"\n".join([*bad, good]))
    rows = list(scan(Path("d.jsonl")))
    assert [row.kind for row in rows if isinstance(row, RowError)] == [
        *("NaN or infinity", "field given twice", "not UTF-8", "not JSON", "number too large", "not an object"),
        "half a surrogate pair",
    ]
    assert [row.source for row in rows] == [f"d.jsonl:{number}" for number in range(1, 9)]
    assert "not UTF-8 at byte 35;" in str(rows[2])
    assert isinstance(rows[-1], Record)
    inside = [b'{"a": NaN}', b'{"a": 1, "a": 2}', b'"x"', good]
    Path("d.json").write_bytes(b"[" + b",\n".join(inside) + b"]")
    assert [isinstance(row, Record) for row in scan(Path("d.json"))] == [False, False, False, True]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"question,sub_questions\na\nb,c\n", ["d.csv:2: 1 cells, but the header has 2 columns; quote the cells", {}]),
        (b"question,sub_questions\na,b,c\nb,c\n", ["d.csv:2: 3 cells, but the header has 2 columns; quote", {}]),
        (b"question,sub_questions\n\xff,c\nb,c\n", ["d.csv:2: not UTF-8 at byte 23; save the file as UTF-8", {}]),
        (b'question,sub_questions\na,"[1"\nb,c\n', ["d.csv:2: the cell sub_questions begins with [ but is not", {}]),
        (
            b"question;sub_questions\na;b\n",
            ["d.csv:1: the columns are separated by ';'; save it with commas, or as .tsv with"],
        ),
        (b"question,question\na,b\n", ["d.csv:1: two columns have one name, 'question'; rename one of them"]),
        (b'question,sub_questions\nb,c\n"a,b\n', [{}, "d.csv:3: not CSV: unexpected end of data; correct its quotes"]),
    ],
)
def test_faults_of_a_table(text: bytes, expected: list[Any]) -> None:
    Path("d.csv").write_bytes(text)
    rows = found(Path("d.csv"))
    assert len(rows) == len(expected)
    for row, wanted in zip(rows, expected, strict=True):
        if isinstance(wanted, str):
            assert row.startswith(wanted)
        else:
            assert row == {"question": "b", "sub_questions": ["c"]}


def test_missing_values_of_a_parquet_file_are_named() -> None:
    parquet.write_table(arrow.table({"question": ["a", "b"], "score": [float("nan"), 1.0]}), "d.parquet")
    assert found(Path("d.parquet")) == [
        "d.parquet:1: the field 'score' is nan; replace or remove it",
        {"question": "b", "score": 1.0},
    ]


@pytest.mark.parametrize("name", ["d.parquet", "d.jsonl.gz", "d.csv.gz", "d.json.gz"])
@pytest.mark.parametrize("keep", [0, 10, -20])
def test_a_damaged_file_is_a_fault_and_no_traceback(name: str, keep: int) -> None:
    if name.endswith(".gz"):
        whole = gzip.compress(TEXTS[name[:-3]].encode("utf-8") * 3)
    else:
        parquet.write_table(arrow.Table.from_pylist(ROWS), name)
        whole = Path(name).read_bytes()
    Path(name).write_bytes(whole[:keep] if keep else b"")
    if not keep and name.endswith(".gz"):
        assert found(Path(name)) == []
        return
    faults = [row for row in scan(Path(name)) if isinstance(row, RowError)]
    assert faults and faults[-1].kind == "damaged file"
    assert "download it again" in str(faults[-1])


@pytest.mark.parametrize("name", ["no.jsonl", "no.csv", "no.parquet", "no.json.gz"])
def test_a_file_that_is_not_there(name: str) -> None:
    with pytest.raises(UserError, match="No such file or directory"):
        list(scan(Path(name)))


def test_json_lines_are_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("d.jsonl").write_text(lines() * 10_000, encoding="utf-8")
    rows = scan(Path("d.jsonl"))
    assert isinstance(next(rows), Record)
    import tracemalloc

    tracemalloc.start()
    count = sum(1 for _ in rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 19_999
    assert peak < 200_000  # bytes; the file has 1.4 million


OTHER_LINE_ENDS = "a\u2028b\u2029c\x0bd\x0ce\x85f\x1cg\x1dh\x1ei"
"""What str.splitlines() takes for line ends besides \\n and \\r."""


@pytest.mark.parametrize("name", ["d.csv", "d.tsv", "d.jsonl", "d.json"])
def test_only_line_feeds_end_a_line(name: str) -> None:
    row = {"question": OTHER_LINE_ENDS, "sub_questions": [OTHER_LINE_ENDS, "#1?"]}
    if name.endswith("sv"):
        out = io.StringIO()
        cells = csv.writer(out, delimiter="\t" if name == "d.tsv" else ",", lineterminator="\n")
        cells.writerows([["question", "sub_questions"], [OTHER_LINE_ENDS, f"{OTHER_LINE_ENDS}\r\n\n#1?\n"]])
        text, place = out.getvalue(), 2
    else:
        line = json.dumps(row, ensure_ascii=False)
        text, place = f"[{line}]" if name == "d.json" else line, 1
    Path(name).write_bytes(text.encode("utf-8"))
    assert [(found.source, found.row) for found in scan(Path(name)) if isinstance(found, Record)] == [
        (f"{name}:{place}", row)
    ]


@pytest.mark.parametrize("value", [[1.0, float("inf")], {"x": {"y": [float("nan")]}}, [{"z": [[float("-inf")]]}]])
def test_missing_values_inside_a_parquet_column_are_named(value: Any) -> None:
    parquet.write_table(arrow.Table.from_pylist([{"question": "a", "scores": value}]), "d.parquet")
    [fault] = found(Path("d.parquet"))
    assert fault.startswith("d.parquet:1: the field 'scores' is ") and fault.endswith("; replace or remove it")


def test_missing_values_inside_a_map_are_named() -> None:
    column = arrow.array([[("k", float("nan"))]], arrow.map_(arrow.string(), arrow.float64()))
    parquet.write_table(arrow.table({"question": ["a"], "scores": column}), "d.parquet")
    assert found(Path("d.parquet")) == ["d.parquet:1: the field 'scores' is nan; replace or remove it"]


def test_out_of_memory_is_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise MemoryError

    Path("d.json").write_text("[]")
    monkeypatch.setattr("qdsft.data.readers.read_text", fail)
    with pytest.raises(UserError, match=r"^d\.json: out of memory; write one row a line"):
        list(scan(Path("d.json")))
