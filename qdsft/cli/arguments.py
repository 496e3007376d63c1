"""Arguments that several commands share. Errors of their types are sentences, unlike argparse's own."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

LAST_PORT = 65535
MOST_GIB = 1_000_000
MOST_TEMPERATURE = 10
MOST_NUMBER = 1_000_000


def positive(text: str) -> int:
    """Return a whole number above 0; argparse reports anything else as wrong usage."""
    number = _whole_number(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return number


def port(text: str) -> int:
    """Return a port number; argparse reports anything else as wrong usage."""
    number = _whole_number(text)
    if not 0 < number <= LAST_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port between 1 and {LAST_PORT}")
    return number


def port_or_any(text: str) -> int:
    """Return a port number as `port` does, or 0, which means any free port."""
    return 0 if text == "0" else port(text)


def gib(text: str) -> float:
    """Return a memory size in GiB; argparse reports anything else as wrong usage."""
    number = _real_number(text)
    if not 0 < number < MOST_GIB:
        raise argparse.ArgumentTypeError(f"{text!r} is not a memory size in GiB; give a number such as 8 or 7.5")
    return number


def share(text: str) -> float:
    """Return a share above 0 and at most 1; argparse reports anything else as wrong usage."""
    number = _real_number(text)
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share above 0 and at most 1, such as 0.9")
    return number


def temperature(text: str) -> float:
    """Return a sampling temperature; argparse reports anything else as wrong usage."""
    number = _real_number(text)
    if not 0 < number <= MOST_TEMPERATURE:
        raise argparse.ArgumentTypeError(f"{text!r} is not a temperature above 0 and at most {MOST_TEMPERATURE}")
    return number


def number(text: str) -> float:
    """Return a number from 0 to MOST_NUMBER; argparse reports anything else as wrong usage."""
    found = _real_number(text)
    if not 0 <= found <= MOST_NUMBER:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to {MOST_NUMBER}")
    return found


def add_recipe_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    help_text: str,
    handler: Callable[[argparse.Namespace], int],
    nargs: str | None = None,
) -> argparse.ArgumentParser:
    """Add a command that takes a recipe and values that replace the recipe's; return its parser."""
    parser = commands.add_parser(name, help=help_text)
    parser.add_argument(
        "recipe", metavar="RECIPE", nargs=nargs, help="YAML file, or a shipped recipe such as tiny/full"
    )
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="values that replace the recipe's")
    parser.set_defaults(handler=handler)
    return parser


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add --trust-remote-code: consent is given with each command and never read from a run directory."""
    parser.add_argument(
        "--trust-remote-code",
        action="store_true",
        help="run the Python code in the model's folder on this machine (default: off, whatever run.json says)",
    )


def _real_number(text: str) -> float:
    """Return a number; NaN, which lies in no range, for anything else."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _whole_number(text: str) -> int:
    """Return the number, or -1 for a text that is no whole number."""
    try:
        return int(text)
    except ValueError:
        return -1
