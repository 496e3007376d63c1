"""Types of command-line arguments that several commands share."""

from __future__ import annotations

import argparse

LAST_PORT = 65535


def positive(text: str) -> int:
    """Return a whole number above 0. argparse reports anything else as wrong usage."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def port(text: str) -> int:
    """Return a port. argparse reports anything else as wrong usage."""
    number = int(text)
    if not 0 < number <= LAST_PORT:
        raise argparse.ArgumentTypeError(f"{text} is not between 1 and {LAST_PORT}")
    return number


def port_or_any(text: str) -> int:
    """Return a port, or 0 for any free port."""
    return 0 if text == "0" else port(text)
