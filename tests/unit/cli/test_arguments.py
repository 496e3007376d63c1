"""Every wrong value of a command line argument is answered with a sentence."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import pytest

from qdsft.cli.arguments import gib, port, port_or_any, positive


def test_good_values() -> None:
    assert (positive("3"), port("80"), port_or_any("0"), gib("7.5")) == (3, 80, 0, 7.5)


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (positive, "many", "'many' is not a whole number above 0"),
        (positive, "0", "'0' is not a whole number above 0"),
        (positive, "1.5", "'1.5' is not a whole number above 0"),
        (port, "http", "'http' is not a port between 1 and 65535"),
        (port, "70000", "'70000' is not a port between 1 and 65535"),
        (port_or_any, "-1", "'-1' is not a port between 1 and 65535"),
        (gib, "none", "'none' is not a memory size in GiB; give a number such as 8 or 7.5"),
        (gib, "inf", "'inf' is not a memory size in GiB"),
    ],
)
def test_wrong_values(kind: Callable[[str], object], text: str, message: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=message):
        kind(text)
