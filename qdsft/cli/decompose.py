"""`qdsft decompose`: decompose a question, typed questions, or a file of questions."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from qdsft.cli.arguments import add_trust, positive
from qdsft.console import print_note, print_result, say
from qdsft.errors import UserError

if TYPE_CHECKING:
    from qdsft.runs.manifest import Manifest

FILE_OPTIONS = ("output", "batch_size", "no_merge")
"""Options that need --input."""


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `decompose` to the commands."""
    from qdsft.data.formats import ANSWER_FORMATS

    decompose = commands.add_parser("decompose", help="decompose a question, questions read line by line, or a file")
    decompose.add_argument("run_dir", type=Path, metavar="RUN_DIR")
    decompose.add_argument(
        "question", nargs="?", metavar="QUESTION", help="without it, questions are read from standard input"
    )
    decompose.add_argument("--input", type=Path, metavar="FILE", help="questions: JSON Lines, CSV, Parquet, or .txt")
    decompose.add_argument("--output", type=Path, metavar="FILE", help="a new file for the answers to --input")
    decompose.add_argument(
        "--format",
        choices=("json", "text", *ANSWER_FORMATS),
        help="format of the answers (default: text; json with --input)",
    )
    decompose.add_argument("--json", action="store_true", help="same as --format json")
    decompose.add_argument("--constrained", action="store_true", help="force every answer to be a valid decomposition")
    decompose.add_argument(
        "--adapter",
        action="append",
        default=[],
        type=Path,
        metavar="OTHER_RUN",
        help="another run on the same base model; a question that begins with @FOLDER_NAME goes to it",
    )
    decompose.add_argument("--batch-size", type=positive, metavar="N", help="questions of --input to decode together")
    decompose.add_argument(
        "--engine",
        choices=("transformers", "vllm"),
        default="transformers",
        help="engine that decodes --input (default: transformers)",
    )
    decompose.add_argument("--no-merge", action="store_true", help="do not merge an adapter into its base model")
    add_trust(decompose)
    decompose.set_defaults(handler=_decompose)


def _decompose(options: argparse.Namespace) -> int:
    from qdsft.runs.manifest import read_finished

    if options.json and options.format not in {None, "json"}:
        raise UserError(f"--json and --format {options.format} contradict each other; give one of them")
    manifest = read_finished(options.run_dir)
    if options.question is not None and not options.question.strip():
        raise UserError("the question is empty; write it in quotes after the run directory")
    if options.input is not None:
        return _answer_file(options, manifest)
    given = [name for name in FILE_OPTIONS if getattr(options, name)]
    if given or options.engine != "transformers":
        raise UserError(f"--{(given or ['engine'])[0].replace('_', '-')} requires a file of questions; add --input")
    return _answer_questions(options, manifest)


def _answer_questions(options: argparse.Namespace, manifest: Manifest) -> int:
    from qdsft.inference.decomposer import Decomposer, show_answer

    fmt = "json" if options.json else options.format or "text"
    decomposer = Decomposer(
        options.run_dir, constrained=options.constrained, manifest=manifest, trust_remote_code=options.trust_remote_code
    )
    for run_dir in options.adapter:
        decomposer.add_adapter(run_dir.resolve().name.replace(".", "_"), run_dir)  # PEFT allows no dots
    questions = [(0, options.question)] if options.question is not None else _typed_questions()
    for number, question in questions:
        try:
            adapter, asked = _addressed(question) if options.adapter else (None, question)
            shown = show_answer(decomposer, asked, fmt, adapter)
        except UserError as error:
            if options.question is not None:
                raise
            print_note(f"error: line {number}: {error}")
            continue
        print_result(shown.text, flush=True)
        if shown.warning:
            print_note(f"warning: {f'line {number}: ' if number else ''}{shown.warning}")
    return 0


def _answer_file(options: argparse.Namespace, manifest: Manifest) -> int:
    """Answer a file. Refused rows are named and counted, and do not change the exit status 0."""
    if options.adapter:
        raise UserError("--adapter works with typed questions only; run --input with each run separately")
    if options.question is not None:
        raise UserError("a question and --input exclude each other; give one of them")
    if options.output is None:
        raise UserError("--input requires --output, the name of a new file for the answers")
    from qdsft.inference.decompose_file import decompose_file

    try:
        report = decompose_file(
            options.run_dir,
            options.input,
            options.output,
            fmt="json" if options.json else options.format or "json",
            batch_size=options.batch_size,
            constrained=options.constrained,
            engine=options.engine,
            merge=not options.no_merge,
            trust_remote_code=options.trust_remote_code,
            on_refused=lambda error: print_note(f"left out: {error}"),
            manifest=manifest,
        )
    except KeyboardInterrupt:
        say("\ninterrupted; run the same command again to continue after the answers written so far")
        return 130
    counts = [(len(report.refused), "left out"), (report.invalid, "not valid"), (report.unstopped, "cut off")]
    print_result(
        ", ".join([f"{report.written} answers written to {options.output}", *(f"{n} {what}" for n, what in counts)])
    )
    return 0


def _addressed(question: str) -> tuple[str | None, str]:
    """Split "@name question" into name and question; the name is None without an @."""
    if not question.startswith("@"):
        return None, question
    name, _, rest = question[1:].partition(" ")
    if not rest.strip():
        raise UserError(f"{question!r} has no question after the name; write @{name or 'NAME'} and the question")
    return name, rest.strip()


def _typed_questions() -> Iterator[tuple[int, str]]:
    """Yield number and text of the input's lines that are not blank; a terminal gets a prompt."""
    for number in count(1):
        if sys.stdin.isatty():
            print("question (Ctrl-D to end): ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield number, line.strip()
