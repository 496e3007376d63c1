"""`qdsft data ...`: commands that work on data files alone."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `data` and the commands under it."""
    data = commands.add_parser("data", help="work on data files").add_subparsers(required=True, metavar="COMMAND")
    convert = data.add_parser("convert", help="convert another project's data format")
    convert.add_argument("--from", dest="source_format", choices=["strategyqa"], required=True)
    convert.add_argument("--to", dest="target_format", choices=["jsonl"], required=True)
    convert.add_argument("source", type=Path, metavar="IN")
    convert.add_argument("target", type=Path, metavar="OUT")
    convert.set_defaults(handler=_convert)


def _convert(options: argparse.Namespace) -> int:
    from qdsft.formats import convert

    report = convert(options.source_format, options.target_format, options.source, options.target)
    for line in report.dropped:
        print(f"dropped: {line}", file=sys.stderr)
    print(f"{report.written} rows written to {options.target}, {len(report.dropped)} dropped")
    return 0
