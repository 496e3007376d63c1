"""Counting rows and their problems."""

from __future__ import annotations

import pytest

from qdsft.data.checks.problems import CheckedRow, Problem, Tally
from qdsft.data.record import RowError


def refused(source: str) -> CheckedRow:
    row = CheckedRow(source)
    row.refuse(RowError(source, "no steps", "there are no steps"))
    return row


def odd(source: str) -> CheckedRow:
    row = CheckedRow(source)
    row.warn("one step only", "there is one step only")
    row.warn("unused step", None)
    return row


def test_an_error_makes_a_row_unusable_and_a_warning_does_not() -> None:
    assert refused("d:1").problems == [Problem("error", "no steps", "d:1", "there are no steps")]
    assert not refused("d:1").usable and odd("d:2").usable
    assert [problem.kind for problem in odd("d:2").problems] == ["one step only"]


def test_each_row_is_counted_once() -> None:
    both = refused("d:3")
    both.warn("one step only", "there is one step only")
    tally = Tally()
    for row in (CheckedRow("d:0"), refused("d:1"), odd("d:2"), both):
        assert list(tally.add(row)) == row.problems
    assert (tally.total, tally.clean, tally.unusable, tally.warned) == (4, 1, 2, 1)
    assert tally.counts == {("error", "no steps"): 2, ("warning", "one step only"): 2}


def test_a_problem_of_a_file_is_not_a_row() -> None:
    tally = Tally()
    tally.add(
        CheckedRow("d", problems=[Problem("error", "no rows", "d", "there are no rows")], usable=False, is_row=False)
    )
    assert (tally.total, tally.unusable) == (0, 0)
    assert tally.failed(strict=False)


@pytest.mark.parametrize(
    ("rows", "plain", "strict"), [([CheckedRow("d:1")], 0, 0), ([odd("d:1")], 0, 1), ([refused("d:1")], 1, 1)]
)
def test_errors_and_warnings_that_fail(rows: list[CheckedRow], plain: bool, strict: bool) -> None:
    tally = Tally()
    for row in rows:
        tally.add(row)
    assert (tally.failed(strict=False), tally.failed(strict=True)) == (plain, strict)
