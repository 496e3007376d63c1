"""`qdsft runs`: the run directories in a folder."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from qdsft.console import say


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `runs` to the commands."""
    runs = commands.add_parser("runs", help="list run directories: what they trained, scored, weigh, and their state")
    runs.add_argument("folder", nargs="?", type=Path, default=Path("outputs"), metavar="DIR", help="(outputs)")
    runs.add_argument("--json", action="store_true", help="print JSON instead of a table")
    runs.set_defaults(handler=_runs)


def _runs(options: argparse.Namespace) -> int:
    from qdsft.runs.listing import list_runs, run_lines

    found = list_runs(options.folder)
    if options.json:
        print(json.dumps([run.to_json() for run in found], indent=2, ensure_ascii=False))
    elif found:
        for line in run_lines(found):
            print(line)
    else:
        say(f"no runs in {options.folder}")
    return 0
