"""`qdsft decompose`: a question in, its sub-questions out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from qdsft.errors import UserError


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `decompose` to the commands."""
    decompose = commands.add_parser("decompose", help="decompose a question, or several read line by line")
    decompose.add_argument("run_dir", type=Path, metavar="RUN_DIR")
    decompose.add_argument(
        "question", nargs="?", metavar="QUESTION", help="without it, questions are read from the input"
    )
    decompose.add_argument("--json", action="store_true", help="one line of JSON for each question")
    decompose.set_defaults(handler=_decompose)


def _decompose(options: argparse.Namespace) -> int:
    from qdsft.run import read_finished

    read_finished(options.run_dir)
    if options.question is not None and not options.question.strip():
        raise UserError("the question is empty; write it in quotes after the run directory")
    from qdsft.decompose import Decomposer, show

    decomposer = Decomposer(options.run_dir)
    questions = [options.question] if options.question is not None else _typed_questions()
    for question in questions:
        try:
            text, warning = show(decomposer, question, as_json=options.json)
        except UserError as error:
            if options.question is not None:
                raise
            print(f"error: {error}", file=sys.stderr)
            continue
        print(text, flush=True)
        if warning:
            print(f"warning: {warning}", file=sys.stderr)
    return 0


def _typed_questions() -> Iterator[str]:
    """Lines of the input that are not blank, with a prompt where a person types them."""
    while True:
        if sys.stdin.isatty():
            print("question (Ctrl-D ends): ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()
