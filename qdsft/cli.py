"""The command line. Each handler imports its stage itself, so that light commands stay light."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import qdsft
from qdsft import cli_data
from qdsft.console import is_main_process, quiet_libraries, say, standard_output
from qdsft.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 right, 1 a user error, 2 wrong usage, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    quiet_libraries()
    parser = build_parser()
    options, rest = parser.parse_known_args(arguments)
    if unknown := _take_positionals(options, rest):
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    handler: Callable[[argparse.Namespace], int] = options.handler
    try:
        status = handler(options)
        _flush()
        return status
    except UserError as error:
        if is_main_process():
            print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _flush() -> None:
    """Write out what is left of standard output, while a full disk or a reader that went away is still caught."""
    if sys.stdout is None:  # closed by the caller
        return
    with standard_output():
        sys.stdout.flush()


def _take_positionals(options: argparse.Namespace, rest: Sequence[str]) -> list[str]:
    """Take what argparse leaves over because it stands after an option; returns what is really unknown."""
    unknown = []
    for item in rest:
        if not item.startswith("-") and "=" in item and hasattr(options, "overrides"):
            options.overrides.append(item)
        elif not item.startswith("-") and getattr(options, "question", item) is None:
            options.question = item
        else:
            unknown.append(item)
    return unknown


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(prog="qdsft", description=qdsft.__doc__)
    parser.add_argument("--version", action="version", version=f"qdsft {qdsft.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _recipe_command(commands, "recipe", "show a recipe's resolved values and where each comes from", _recipe)
    _recipe_command(commands, "check", "check a recipe and its data, offline, without loading a model", _check)
    train = _recipe_command(commands, "train", "train as a recipe says, in this process", _train)
    train.add_argument("--resume", action="store_true", help="go on from the newest complete checkpoint")
    train.add_argument("--overwrite", action="store_true", help="delete an earlier run in the same directory")

    inspect = _recipe_command(commands, "inspect", "show training rows as the model sees them", _inspect)
    inspect.add_argument("-n", dest="rows", type=_positive, default=3, metavar="N", help="rows to show (3)")

    evaluate = commands.add_parser("evaluate", help="score a finished run on its held-out rows")
    evaluate.add_argument("run_dir", type=Path, metavar="RUN_DIR")
    evaluate.add_argument("--baseline", action="store_true", help="score the base model with the same prompts too")
    evaluate.add_argument("--samples", type=_positive, metavar="N", help="score at most N rows")
    evaluate.add_argument("--batch-size", type=_positive, metavar="N", help="rows decoded together")
    evaluate.set_defaults(handler=_evaluate)

    decompose = commands.add_parser("decompose", help="decompose a question, or several read line by line")
    decompose.add_argument("run_dir", type=Path, metavar="RUN_DIR")
    decompose.add_argument(
        "question", nargs="?", metavar="QUESTION", help="without it, questions are read from the input"
    )
    decompose.add_argument("--json", action="store_true", help="one line of JSON for each question")
    decompose.set_defaults(handler=_decompose)

    cli_data.add_commands(commands)
    return parser


def _recipe_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    help_text: str,
    handler: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help_text)
    parser.add_argument("recipe", metavar="RECIPE", help="a YAML file, such as recipes/tiny/full.yaml")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="values that replace the recipe's")
    parser.set_defaults(handler=handler)
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def _recipe(options: argparse.Namespace) -> int:
    import json

    from qdsft.recipe import load_recipe

    rows = load_recipe(options.recipe, options.overrides).rows()
    width = max(len(key) for key, _, _ in rows)
    for key, value, origin in rows:
        print(f"{key:<{width}}  {json.dumps(value, ensure_ascii=False):<40}  {origin}")
    return 0


def _check(options: argparse.Namespace) -> int:
    from qdsft.check import check

    for line in check(options.recipe, options.overrides):
        print(line)
    return 0


def _train(options: argparse.Namespace) -> int:
    from qdsft.recipe import load_recipe

    recipe = load_recipe(options.recipe, options.overrides)
    if options.resume and options.overwrite:
        raise UserError("--resume and --overwrite contradict each other; give one of them")
    from qdsft.train import train

    try:
        run_dir = train(recipe, resume=options.resume, overwrite=options.overwrite)
    except KeyboardInterrupt:
        say(f"\ninterrupted; go on with: {recipe.resume_command()}")
        return 130
    say(f'next: qdsft evaluate {run_dir} --baseline, or: qdsft decompose {run_dir} "your question"')
    return 0


def _inspect(options: argparse.Namespace) -> int:
    from qdsft.recipe import load_recipe

    recipe = load_recipe(options.recipe, options.overrides)
    from qdsft.inspection import inspect

    for line in inspect(recipe, options.rows, colour=sys.stdout.isatty() and "NO_COLOR" not in os.environ):
        print(line)
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from qdsft.run import read_finished

    read_finished(options.run_dir)
    from qdsft.card import metric_table
    from qdsft.evaluate import evaluate

    results = evaluate(
        options.run_dir, baseline=options.baseline, samples=options.samples, batch_size=options.batch_size
    )
    print(f"{'metric':<24}" + "".join(f"{name:>12}" for name in results))
    for label, values in metric_table(results):
        print(f"{label:<24}" + "".join(f"{value:>12}" for value in values))
    say(f"report: {options.run_dir / 'report.html'}")
    return 0


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
