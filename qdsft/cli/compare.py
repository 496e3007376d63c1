"""`qdsft compare`: compare evaluations of the same questions."""

from __future__ import annotations

import argparse
from pathlib import Path

from qdsft.console import print_result, say
from qdsft.errors import UserError
from qdsft.strict_json import to_json


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `compare` to the commands."""
    compare = commands.add_parser("compare", help="compare evaluations of the same questions with the first of them")
    compare.add_argument(
        "evaluations",
        nargs="+",
        type=Path,
        metavar="DIR",
        help="a run directory, a folder written by evaluate --output, or a file such as predictions_baseline.jsonl",
    )
    compare.add_argument("--json", action="store_true", help="print JSON instead of a table")
    compare.add_argument("--output", type=Path, metavar="HTML", help="also write an HTML page to this new file")
    compare.set_defaults(handler=_compare)


def _compare(options: argparse.Namespace) -> int:
    from qdsft.files import new_text_file
    from qdsft.scoring.compare import compare
    from qdsft.scoring.report.compare_page import comparison_lines, comparison_page

    if len(options.evaluations) < 2:
        raise UserError(f"{options.evaluations[0]} alone cannot be compared; give another evaluation after it")
    found = compare(options.evaluations)
    if options.output is not None:
        with new_text_file(options.output) as file:
            file.write(comparison_page(found))
    if options.json:
        print_result(to_json(found.to_json(), indent=2))
    else:
        for line in comparison_lines(found):
            print_result(line)
    if options.output is not None:
        say(f"page: {options.output}")
    return 0
