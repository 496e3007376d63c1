"""What a row must be, and JSON and JSON Lines: each row with its line, every fault named with file and line."""

from __future__ import annotations

import json
import os
import random
import time
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from helpers.paths import ROOT
from helpers.refusals import refusal

from qdsft.data.checks.lint import CHECKS, Texts
from qdsft.data.readers import stream_records
from qdsft.data.record import Record
from qdsft.data.sources import is_hub_id
from qdsft.data.text import question_hash
from qdsft.data.validation import faults, validate
from qdsft.errors import UserError

EXAMPLES = ROOT / "data" / "examples"
ROW = {"question": "Who?", "sub_questions": ["A?", "Is #1 B?"]}
LINE = json.dumps(ROW)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(content: str | bytes) -> list[Record]:
    Path("d").write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return list(stream_records(Path("d")))


def sources(records: list[Record]) -> list[str]:
    return [record.source for record in records]


PARTS = ["Who", " ", "", "#0", "#1", "#2", "#3", "#99999999999", "\n", "\x00", "\u2028", "\u00a0", "가", None, 1, ["x"]]


def test_rows_that_pass_the_quick_check_have_no_fault() -> None:
    questions = [*PARTS, *(f"Who{part}" for part in PARTS if isinstance(part, str))]
    lists = [
        [],
        *([part] for part in PARTS),
        *map(list, product(PARTS, PARTS)),
        ["a", "#1", "b #2, #1"],
        ["a", "b #2 #1"],
    ]
    for question, steps in product(questions, lists):
        record = Record({"question": question, "sub_questions": steps}, "d:1")
        found = [str(fault) for fault in faults(record)]
        try:
            validate(record)
        except UserError as error:
            assert str(error) == found[0]
        else:
            assert not found


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (f"{LINE}\n{LINE}\n", [1, 2]),
        (f"{LINE}\n{LINE}", [1, 2]),
        (f"{LINE}\r\n{LINE}\r\n", [1, 2]),
        (f"\n\n{LINE}\n \t\n\n{LINE}\n\n", [3, 6]),
        (f"\ufeff{LINE}\n{LINE}", [1, 2]),
        (f"  {LINE}  \n", [1]),
        (f"[{LINE},{LINE}]", [1, 1]),
        (f"\ufeff \n[\n{LINE},\n\n{LINE}\n]\n", [3, 5]),
        (f"[\r\n{LINE}\r\n,\r\n{LINE}\r\n]\r\n", [2, 4]),
        (json.dumps([ROW, ROW, ROW], indent=2), [2, 9, 16]),
    ],
)
def test_both_formats_and_where_each_row_stands(content: str, lines: list[int]) -> None:
    records = read(content)
    assert [record.row for record in records] == [ROW] * len(lines)
    assert sources(records) == [f"d:{line}" for line in lines]
    for record in records:
        validate(record)


def test_the_lines_of_a_pretty_printed_list_are_those_of_an_editor() -> None:
    path = EXAMPLES / "sample_train.json"
    lines = path.read_text(encoding="utf-8").split("\n")
    records = list(stream_records(path))
    assert len(records) > 50
    for record in records:
        number = int(record.source.rsplit(":", 1)[1])
        assert lines[number - 1].strip() == "{"
        assert json.dumps(record.row["question"], ensure_ascii=False) in lines[number]


def test_the_two_sample_files_hold_the_same_rows() -> None:
    rows = [[record.row for record in stream_records(EXAMPLES / f"sample_train.{kind}")] for kind in ("json", "jsonl")]
    assert rows[0] == rows[1]


def test_a_line_separator_inside_a_text_ends_no_row() -> None:
    row = {"question": "a\u2028b\u2029c\x85d", "sub_questions": ["e"]}
    records = read(f"{json.dumps(row, ensure_ascii=False)}\n{LINE}\n")
    assert records[0].row == row
    assert sources(records) == ["d:1", "d:2"]


BROKEN = LINE[:-1]  # without its closing brace


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "d: there are no rows; give a file with at least one"),
        ("\n \n", "d: there are no rows; give a file with at least one"),
        ("\ufeff", "d: there are no rows; give a file with at least one"),
        ("[]", "d: there are no rows; give a file with at least one"),
        ("[\n \n]\n", "d: there are no rows; give a file with at least one"),
        # line 17, in both formats
        (
            f"{LINE}\n" * 16 + BROKEN,
            f"d:17: not JSON at column {len(BROKEN) + 1}: Expecting ',' delimiter; write one object a line, or one "
            "JSON list",
        ),
        (
            f"{LINE}\n" * 16 + '   {"question": }',
            "d:17: not JSON at column 17: Expecting value; write one object a line, or one JSON list",
        ),
        ("[\n" + f"{LINE},\n" * 15 + '{"question": }]', "d:17: not JSON at column 14: Expecting value"),
        ("[\n" + f"{LINE},\n" * 15 + '{"question":\n\n "a" "b"}]', "d:19: not JSON at column 6: Expecting ','"),
        # one object over several lines is neither of the two
        (
            json.dumps(ROW, indent=1),
            "d:1: not JSON at column 2: Expecting property name enclosed in double quotes; "
            "write one object a line, or one JSON list",
        ),
        (f"{LINE},\n{LINE}", f"d:1: not JSON at column {len(LINE) + 1}: Extra data; write one object a line"),
        # lists with faults between rows
        (f"[{LINE},\n]", "d:2: not JSON at column 1: Expecting value"),
        (f"[,{LINE}]", "d:1: not JSON at column 2: Expecting value"),
        ("[", "d:1: not JSON at column 2: Expecting value"),
        (f"[\n{LINE}\n]]", "d:3: there is text after the closing ']'; remove it"),
        # rows that are no objects
        ("[1]", "d:1: a row must be an object with fields, not 1"),
        ("null", "d:1: a row must be an object with fields, not null"),
        (f'[\n"{"x" * 90}"]', f'd:2: a row must be an object with fields, not "{"x" * 56}...'),
        # what JSON's grammar lets through, in lists and names; tests/unit/data/test_json_reader.py has the others
        ('[{"a": 1,\n"a": 2}]', "d:1: the field 'a' is given twice; remove one"),
        ('[\n{"a": -Infinity}]', "d:2: -Infinity is not a JSON value; replace or remove it"),
        ('{"a\\udfff": 1}', "d:1: a text has half of a surrogate pair (\\ud800-\\udfff); remove it"),
        ('"\\ud800"', "d:1: a text has half of a surrogate pair (\\ud800-\\udfff); remove it"),
        ('[["\\ud800"]]', "d:1: a text has half of a surrogate pair (\\ud800-\\udfff); remove it"),
        (f"{LINE}\n" + '{"a":' * 100_000, "d:2: nested too deeply"),
        (f"[{LINE},\n" + '{"a":' * 100_000, "d:2: nested too deeply"),
        # bytes
        (b'\n{"a": "\xff"}', "d:2: not UTF-8 at byte 8; save the file as UTF-8"),
        (LINE.encode("utf-16"), 'd: this is UTF-16 text, Excel\'s "Unicode Text"; save it as "CSV UTF-8"'),
        ('{"a": "한"}'.encode("cp949"), "d:1: not UTF-8 at byte 7, probably CP949"),
    ],
)
def test_a_file_that_is_wrong(content: str | bytes, message: str) -> None:
    assert refusal(lambda: read(content)).startswith(message)


def test_rows_nested_just_below_the_limit_are_read_or_refused() -> None:
    # Reading and writing JSON give up at depths that differ by a few.
    for depth in range(880, 1000):
        nested = "[" * depth + "]" * depth
        for content in (nested, f'{{"a": {nested}}}', f'[{{"a": {nested}}}]'):
            try:
                read(content)
            except UserError as error:
                assert "\n" not in str(error)


def test_a_file_that_cannot_be_opened() -> None:
    here = os.getcwd()
    assert refusal(lambda: list(stream_records(Path("nope.jsonl")))) == (
        f"nope.jsonl: No such file or directory (looked at {here}/nope.jsonl); correct the path"
    )
    assert refusal(lambda: list(stream_records(Path(".")))) == f".: Is a directory (looked at {here}); correct the path"
    assert "File name too long" in refusal(lambda: list(stream_records(Path("x" * 300))))


def changed(**fields: Any) -> Record:
    return Record({**ROW, **fields}, "d:3")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"question": ""}, 'd:3: question must be text that is not empty, not ""'),
        ({"question": " \n"}, 'd:3: question must be text that is not empty, not " \\n"'),
        ({"question": None}, "d:3: question must be text that is not empty, not null"),
        ({"question": ["Who?"]}, 'd:3: question must be text that is not empty, not ["Who?"]'),
        ({"sub_questions": "A?"}, 'd:3: sub_questions must be a list of text, not "A?"'),
        ({"sub_questions": None}, "d:3: sub_questions must be a list of text, not null"),
        ({"sub_questions": {"1": "A?"}}, 'd:3: sub_questions must be a list of text, not {"1": "A?"}'),
        ({"sub_questions": []}, "d:3: sub_questions: there are no steps; correct or remove the row"),
        ({"sub_questions": ["A?", 2]}, "d:3: sub_questions: step 2 must be text, not 2"),
        ({"sub_questions": ["A?", None]}, "d:3: sub_questions: step 2 must be text, not null"),
        ({"sub_questions": [["A?"]]}, 'd:3: sub_questions: step 1 must be text, not ["A?"]'),
        ({"sub_questions": ["A?", " "]}, "d:3: sub_questions: step 2 is empty; correct or remove the row"),
        ({"sub_questions": ["A?\n"]}, "d:3: sub_questions: step 1 has a line break; correct or remove the row"),
        ({"sub_questions": ["A?\rB?"]}, "d:3: sub_questions: step 1 has a line break; correct or remove the row"),
        ({"sub_questions": ["A?"] * 1001}, "d:3: sub_questions: 1001 steps, more than 1000; divide or remove the row"),
        (
            {"sub_questions": ["1. A?", "2. #1?"]},
            "d:3: sub_questions: the steps begin with their own numbers, which training adds once more; remove them "
            "(qdsft data check --write-clean OUT does)",
        ),
        (
            {"sub_questions": ["A?", "#5?"]},
            "d:3: sub_questions: step 2 refers to #5, but there are 2 steps; correct or remove the row",
        ),
        (
            {"sub_questions": ["A?", "#0?"]},
            "d:3: sub_questions: step 2 refers to #0, but there are 2 steps; correct or remove the row",
        ),
        (
            {"sub_questions": ["A?", "#" + "9" * 5000]},
            "d:3: sub_questions: step 2 refers to #1000000000, but there are 2 steps; correct or remove the row",
        ),
        (
            {"sub_questions": ["#2?", "B?"]},
            "d:3: sub_questions: step 1 refers forward to #2; correct or remove the row",
        ),
        (
            {"sub_questions": ["A?", "#2?"]},
            "d:3: sub_questions: step 2 refers to itself (#2); correct or remove the row",
        ),
    ],
)
def test_a_row_that_is_wrong(fields: dict[str, Any], message: str) -> None:
    assert refusal(lambda: validate(changed(**fields))) == message


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"question": "q", "sub_question": ["a"]},
            "the field 'sub_questions' is missing; is it 'sub_question'? rename it",
        ),
        ({"Question": "q", "sub_questions": ["a"]}, "the field 'question' is missing; is it 'Question'? rename it"),
        ({"data": [], "x": 1}, "the field 'question' is missing; this row has data, x"),
        ({}, "the field 'question' is missing; this row has no fields"),
    ],
)
def test_a_field_that_is_missing(row: dict[str, Any], message: str) -> None:
    assert refusal(lambda: validate(Record(row, "d:3"))) == f"d:3: {message}"


def test_every_fault_of_a_row_is_found_not_only_the_first() -> None:
    found = list(faults(changed(question="a\x07b", sub_questions=["#1", "", "#9 \x00", "#4"])))
    assert [fault.kind for fault in found] == [
        *("control character", "empty step", "self reference", "self reference", "dangling reference"),
        "control character",
    ]
    assert str(found[0]) == "d:3: question has the control character U+0007 at position 1; remove it"
    kinds = [fault.kind for fault in faults(Record({"sub_questions": [1, None]}, "d:1"))]
    assert kinds == ["question missing or empty", *["sub_questions not a list of text"] * 2]


def test_other_fields_are_left_alone() -> None:
    validate(changed(id=7, source=None, facts=["x"]))


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("user/name", True),
        ("allenai/break_data", True),
        ("a/b.v1", True),
        ("data/train.jsonl", False),
        ("data/train.JSON", False),
        ("user/rows.csv", False),
        ("user/rows.parquet", False),
        ("name", False),
        ("a/b/c", False),
        ("/a/b", False),
        ("./name", False),
        ("../name", False),
        ("a/..", False),
        ("user/name\n", False),
        ("a b/c", False),
        ("a/\0", False),
        ("", False),
        ("there/" + "x" * 300, True),
    ],
)
def test_hub_ids(name: str, is_one: bool) -> None:
    Path("there").mkdir()
    assert is_hub_id(name) == is_one


def test_a_file_that_is_there_is_no_hub_id() -> None:
    Path("user").mkdir()
    assert is_hub_id("user/rows")
    Path("user/rows").touch()
    assert not is_hub_id("user/rows")


PIECES = [
    *'{}[]:,"\\ \t\n\r019.-+eEnNIt#',
    *("null", "NaN", "1e999", "9" * 5000, "\\ud800", "\\u0000", "\\n", "#9", "#0", '"question"', '""', "\u2028"),
    *("\ufeff", "[" * 1500, '{"a":' * 1500, "\0", "한", "\x85"),
]


def mutate(chance: random.Random, text: str) -> str:
    for _ in range(chance.randint(1, 3)):
        start = chance.randrange(len(text) + 1)
        end = start + chance.randint(0, 12)
        piece = chance.choice([*PIECES, "", "", text[start:end] * 2])
        text = text[:start] + piece + text[chance.choice([start, end]) :]
    return text


@pytest.mark.parametrize("kind", ["json", "jsonl"])
def test_mutations_of_a_real_file_are_read_or_refused(kind: str) -> None:
    rows = [record.row for record in list(stream_records(EXAMPLES / "sample_train.jsonl"))[:8]]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    source = "\n".join(lines) if kind == "jsonl" else json.dumps(rows, ensure_ascii=False, indent=1)
    chance = random.Random(31)
    good = refused = 0
    for _ in range(150):
        text = mutate(chance, source)
        try:
            for record in read(text):
                validate(record)
            good += 1
        except UserError as error:
            message = str(error)
            assert message.startswith("d:") and "\n" not in message and len(message) < 400
            refused += 1
        except Exception as error:
            raise AssertionError(f"{error!r} for {text!r}") from error
    assert good >= 10 and refused >= 50  # the mutations reach both outcomes


def test_names_in_messages_are_cut() -> None:
    row = {f"{n}{'x' * 10_000}": 1 for n in range(10_000)}
    message = refusal(lambda: validate(Record(row, "d:1")))
    assert message.startswith("d:1: the field 'question' is missing; this row has 0xxx") and len(message) < 400


@pytest.mark.parametrize(
    "text",
    ["a" + "\u0301\u0316" * 50_000, "가" + "\u0316\u0301" * 50_000, "?" * 200_000 + "a?", "\u05b0\u0591" * 50_000],
)
def test_the_time_of_a_row_follows_its_length(text: str) -> None:
    """Python's normalisation and careless patterns take quadratic time."""
    start = time.monotonic()
    question_hash(text)
    for check in CHECKS.values():
        check(Texts.of(text, [text, "#1?"]))
    assert time.monotonic() - start < 20
