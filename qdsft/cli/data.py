"""`qdsft data ...`: commands on data files."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from qdsft.cli import data_check, data_distill
from qdsft.console import print_note, print_result


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `data` and the commands under it."""
    from qdsft.data.formats import READERS, WRITERS

    data = commands.add_parser("data", help="work on data files").add_subparsers(required=True, metavar="COMMAND")
    convert = data.add_parser("convert", help="convert between our rows and other projects' formats")
    convert.add_argument("--from", dest="source_format", choices=READERS, required=True)
    convert.add_argument("--to", dest="target_format", choices=WRITERS, required=True)
    convert.add_argument("--self-contained", action="store_true", help="replace every #n by a phrase; cannot be undone")
    convert.add_argument("--tool-name", metavar="NAME", help="llamaindex: the tool that answers (query_engine_tool)")
    convert.add_argument(
        "--corpus", type=Path, metavar="FILE", help="also write the rows' passages to this new file, for a retrieval"
    )
    convert.add_argument("source", type=Path, metavar="IN")
    convert.add_argument("target", type=Path, metavar="OUT")
    convert.set_defaults(handler=_convert)
    data_check.add_commands(data)
    data_distill.add_commands(data)
    synth = data.add_parser("synth", help="make questions about a fictional world, with their decompositions")
    synth.add_argument("--language", metavar="L", required=True, help="en, ko, or en,ko for both in turn")
    synth.add_argument("--rows", type=int, metavar="N", required=True, help="rows in all")
    synth.add_argument("--seed", type=int, metavar="S", required=True, help="the same seed gives the same rows")
    synth.add_argument("--max-steps", type=int, metavar="N", help="leave out questions with more steps")
    synth.add_argument("--min-steps", type=int, metavar="N", default=1, help="leave out questions with fewer steps")
    synth.add_argument(
        "--entities",
        choices=("all", "seen", "unseen"),
        default="all",
        help="seen: never name the 18 held-out entities, for training; unseen: name at least one of them, for scoring",
    )
    synth.add_argument("--output", type=Path, metavar="FILE", help="a new JSON Lines file; without it, standard output")
    synth.set_defaults(handler=_synth)


def _convert(options: argparse.Namespace) -> int:
    from qdsft.data.formats.convert import convert, losses
    from qdsft.data.formats.format import DEFAULT_TOOL
    from qdsft.errors import UserError

    if options.tool_name is not None and options.target_format != "llamaindex":
        raise UserError("--tool-name is only for --to llamaindex; leave it out")
    report = convert(
        options.source_format,
        options.target_format,
        options.source,
        options.target,
        self_contained=options.self_contained,
        tool_name=options.tool_name or DEFAULT_TOOL,
        corpus=options.corpus,
        on_dropped=lambda error: print_note(f"dropped: {error}"),
    )
    for line in losses(options.target_format, self_contained=options.self_contained):
        print_note(f"lost: {line}")
    if report.left_out:
        columns = ", ".join(f"{name} ({count} rows)" for name, count in report.left_out.items())
        print_note(f"lost: {options.target_format} does not keep the columns {columns}")
    kinds = ", ".join(f"{kind}: {count}" for kind, count in report.dropped.most_common())
    dropped = f"{report.dropped.total()} dropped" + (f" ({kinds})" if kinds else "")
    print_result(f"{report.written} rows written to {options.target}, {dropped}")
    if options.corpus is not None:
        print_result(f"{report.passages} passages written to {options.corpus}")
    return 0


def _synth(options: argparse.Namespace) -> int:
    from qdsft.console import say, standard_output
    from qdsft.data.synth import generate_mixed
    from qdsft.files import write_new_lines

    languages, steps = options.language.split(","), (options.max_steps, options.min_steps)
    rows = generate_mixed(languages, options.rows, options.seed, *steps, options.entities)
    lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows)
    if options.output is not None:
        written = write_new_lines(options.output, lines)
        say(f"{written} rows written to {options.output}")
        return 0
    for line in lines:
        with standard_output():
            print_result(line)
    return 0
