"""Lines and lists of JSON: a row or a fault for each, with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qdsft.data.json_reader import json_lines, json_list
from qdsft.data.record import Record, RowError

OTHER_LINE_ENDS = "a\u2028b\u2029c\x0bd\x0ce\x85f\x1cg\x1dh\x1ei"
"""What str.splitlines() takes for line ends besides \\n and \\r."""


def shown(rows: Any) -> list[Any]:
    return [(row.source, row.row) if isinstance(row, Record) else str(row) for row in rows]


def read(*texts: str) -> list[Any]:
    return shown(json_lines(iter(enumerate(texts, start=1)), Path("f")))


def test_blank_lines_are_skipped_and_counted() -> None:
    assert read('{"a": 1}\n', "\n", " \t\r\n", ' {"b": {"c": []}} \r\n') == [
        ("f:1", {"a": 1}),
        ("f:4", {"b": {"c": []}}),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a":NaN}', "f:1: NaN is not a JSON value; replace or remove it"),
        ('{"a":[{"b":-Infinity}]}', "f:1: -Infinity is not a JSON value; replace or remove it"),
        ('{"a":1,"a" :2}', "f:1: the field 'a' is given twice; remove one"),
        ('{"a":{"b":1,"b":2}}', "f:1: the field 'b' is given twice; remove one"),
        ('{"a":1e999}', "f:1: a number is too large; correct or remove it"),
        ('{"a":' + "9" * 5000 + "}", "f:1: a number is too large; correct or remove it"),
        ('{"a":"\\ud800"}', "f:1: a text has half of a surrogate pair (\\ud800-\\udfff); remove it"),
        ("[1]", "f:1: a row must be an object with fields, not [1]"),
        ('  {"a":1} x', "f:1: not JSON at column 11: Extra data; write one object a line, or one JSON list"),
        ('{"a":1},null,{"b":[1', "f:1: not JSON at column 8: Extra data; write one object a line, or one JSON list"),
        ("[" * 100_000, "f:1: nested too deeply; flatten or remove the row"),
    ],
)
def test_a_fault_and_the_row_after_it(text: str, message: str) -> None:
    assert read(text, '{"b":2}') == [message, ("f:2", {"b": 2})]


def test_an_escaped_pair_is_whole() -> None:
    assert read('{"a":"\\ud83d\\ude00"}') == [("f:1", {"a": "😀"})]


def test_a_fault_of_the_line_itself_is_passed_on() -> None:
    fault = RowError("f:1", "not UTF-8", "not UTF-8 at byte 3")
    assert list(json_lines(iter([(1, fault)]), Path("f"))) == [fault]


@pytest.mark.parametrize("character", OTHER_LINE_ENDS[1::2])
def test_only_json_white_space_is_white_space(character: str) -> None:
    [fault] = read(f'{{"a": 1}}{character}')
    assert fault.startswith("f:1: not JSON at column 9: Extra data")


def test_a_list_has_a_line_for_each_row() -> None:
    assert shown(json_list('[{"a": 1}, 5,\n{"b":\n2},\n\n{"c": 3}]\n', Path("f"))) == [
        ("f:1", {"a": 1}),
        "f:1: a row must be an object with fields, not 5",
        ("f:2", {"b": 2}),
        ("f:5", {"c": 3}),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"a": 1}\n{"b": 2}]', "f:2: not JSON: expected ',' or ']' after a row; correct or complete the list"),
        ('[{"a": 1},\n{"b": }]', "f:2: not JSON at column 7: Expecting value; the rest of the file is not read"),
        ('[{"a": 1}]\nx', "f:1: there is text after the closing ']'; remove it"),
        ('[{"a": 1}]\u2028', "f:1: there is text after the closing ']'; remove it"),
        ('[{"a": 1}', "f:1: not JSON: expected ',' or ']' after a row; correct or complete the list"),
    ],
)
def test_a_list_that_is_not_read_to_its_end(text: str, message: str) -> None:
    rows = json_list(text, Path("f"))
    assert next(rows) == Record({"a": 1}, "f:1")
    with pytest.raises(RowError) as caught:
        list(rows)
    assert str(caught.value) == message
