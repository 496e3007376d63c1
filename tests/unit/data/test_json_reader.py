"""Lines that are read together give what each gives alone, rows and faults, however they may fit into each other."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qdsft.data import json_reader
from qdsft.data.json_reader import json_lines
from qdsft.data.record import Record

PLAIN = '{"question": "Who?", "sub_questions": ["A?", "B #1?"]}'
FRAGMENTS = [
    *('2]},0,{"b":1}', '2]},null,{"b":1}', '{"c":1},5,{"d":1}', '{","b":2}'),
    *('[{"a":1}]', '{"a":1},5', '5,{"a":1}'),
    *(PLAIN, '{"a":1}', '{"a" :1}', '{"a":1,"a":2}', '{"a":1,"a" :2}', '{"a":{"b":1,"b":2}}', '{"a":"\\":"}', "{}"),
    *('{"a":[1', "2]}", '{"a":"x}', '{"a":"x', '{"', '"}', '"x"}', '"b":2}', "{", "}", "[", "]", "5", "null", '"'),
    *(
        ",null,",
        ",",
        "NaN",
        '{"a":NaN}',
        '{"a":1e999}',
        '{"a":"\\ud800"}',
        '{"a":"\\u00e9"}',
        '{"a":"{"}',
        ":",
        " ",
        "",
    ),
]


def read(texts: list[str]) -> list[Any]:
    rows = json_lines(iter(enumerate(texts, start=1)), Path("f"))
    return [(row.source, row.row) if isinstance(row, Record) else str(row) for row in rows]


def same(texts: list[str]) -> None:
    together = read(texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_reader._Json, "rows", lambda *_: None)
        assert read(texts) == together


@given(st.lists(st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=3).map("".join), max_size=6))
@example(['{"a":1},null,{"b":[1', "2]}"])
@example(['{"a":"x}', '{","b":2}', '{"c":1},5,{"d":1}'])
def test_together_as_alone(texts: list[str]) -> None:
    same(texts)


def test_any_two_fragments() -> None:
    for first, second in product(FRAGMENTS, FRAGMENTS):
        same([first, second])
        same([PLAIN, first + second, PLAIN])


def test_plain_rows_are_read_together_and_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_reader, "TOGETHER", 3)
    monkeypatch.setattr(json_reader._Json, "row", None)
    assert read([PLAIN] * 10) == [
        (f"f:{n}", {"question": "Who?", "sub_questions": ["A?", "B #1?"]}) for n in range(1, 11)
    ]
