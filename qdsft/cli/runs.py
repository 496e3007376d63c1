"""`qdsft runs`: list the run directories in a folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from qdsft.console import print_result, say
from qdsft.strict_json import to_json


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `runs` to the commands."""
    runs = commands.add_parser("runs", help="list run directories with their state, model, data, size and metrics")
    runs.add_argument("folder", nargs="?", type=Path, default=Path("outputs"), metavar="DIR", help="default: outputs")
    runs.add_argument("--json", action="store_true", help="print JSON instead of a table")
    runs.set_defaults(handler=_runs)


def _runs(options: argparse.Namespace) -> int:
    from qdsft.runs.listing import list_runs, run_lines

    found = list_runs(options.folder)
    if options.json:
        print_result(to_json([run.to_json() for run in found], indent=2))
    elif found:
        for line in run_lines(found):
            print_result(line)
    else:
        say(f"no runs in {options.folder}")
    return 0
