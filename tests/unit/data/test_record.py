"""Rows and their errors."""

from __future__ import annotations

from typing import Any

import pytest

from qdsft.data.record import Record, RowError, checked, names, short_json


@pytest.mark.parametrize(
    "value",
    [float("nan"), [1.0, float("inf")], {"a": {"b": [-float("inf")]}}, {float("nan"): 1}, [[("x", float("nan"))]]],
)
def test_a_number_that_json_cannot_hold_is_found_at_any_depth(value: Any) -> None:
    found = checked({"question": "q", "unused": value}, "d.parquet:3")
    assert isinstance(found, RowError) and found.kind == "NaN or infinity"
    assert str(found).startswith("d.parquet:3: the field 'unused' is ") and str(found).endswith(
        "; replace or remove it"
    )


def test_other_values_pass() -> None:
    row = {"a": 1.5, "b": [None, "nan", True], "c": {"d": (1, 2)}}
    assert checked(row, "x:1", tabular=True) == Record(row, "x:1", True)


def test_an_error_is_one_line() -> None:
    error = RowError("x:1", "kind", "first\nsecond")
    assert (error.source, error.kind, error.message) == ("x:1", "kind", "first second")


def test_values_and_names_are_cut() -> None:
    assert short_json({"a": "가"}) == '{"a": "가"}' and len(short_json("x" * 10_000)) < 200
    assert names([]) == "no fields" and len(names("n" * 90 for _ in range(90))) <= 203
