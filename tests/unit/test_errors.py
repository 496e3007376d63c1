"""The text that a user sees of another library's exception."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from helpers.paths import ROOT

from qdsft.errors import reason


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("\n\n  first \nsecond"), "first"),
        (MemoryError(), "MemoryError"),
        (RuntimeError(" \n "), "RuntimeError"),
        (KeyError("name"), "'name'"),
        (OSError("x" * 400), "x" * 197 + "..."),
    ],
)
def test_the_reason_is_one_short_line(error: Exception, text: str) -> None:
    assert reason(error) == text


def test_nothing_else_takes_the_first_line_of_an_error() -> None:
    """A copy would fail on an exception without a message."""
    copies = r"str\(error\).*splitlines\(\)|splitlines\(\)\[0\]\[:"
    found = subprocess.run(["grep", "-rnE", copies, "--include=*.py", ROOT / "qdsft"], capture_output=True, text=True)
    assert [line for line in found.stdout.splitlines() if Path(line.split(":")[0]).name != "errors.py"] == []
