"""`qdsft data ...`: commands that work on data files alone."""

from __future__ import annotations

import argparse
import json
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
    synth = data.add_parser("synth", help="make questions over a fictional world, with their decompositions")
    synth.add_argument("--language", choices=["en", "ko"], required=True)
    synth.add_argument("--rows", type=int, metavar="N", required=True)
    synth.add_argument("--seed", type=int, metavar="S", required=True, help="the same seed gives the same rows")
    synth.add_argument("--output", type=Path, metavar="FILE", help="a new JSON Lines file; without it, standard output")
    synth.set_defaults(handler=_synth)


def _convert(options: argparse.Namespace) -> int:
    from qdsft.formats import convert

    report = convert(options.source_format, options.target_format, options.source, options.target)
    for line in report.dropped:
        print(f"dropped: {line}", file=sys.stderr)
    print(f"{report.written} rows written to {options.target}, {len(report.dropped)} dropped")
    return 0


def _synth(options: argparse.Namespace) -> int:
    from qdsft.console import say, standard_output
    from qdsft.files import write_new_lines
    from qdsft.synth import generate

    rows = generate(options.language, options.rows, options.seed)
    lines = (json.dumps(row, ensure_ascii=False) for row in rows)
    if options.output is not None:
        written = write_new_lines(options.output, lines)
        say(f"{written} rows written to {options.output}")
        return 0
    for line in lines:
        with standard_output():
            print(line)
    return 0
