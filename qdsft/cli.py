"""The command line. Each handler imports its stage itself, so that light commands stay light."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import qdsft
from qdsft import (
    cli_compare,
    cli_data,
    cli_decompose,
    cli_demo,
    cli_doctor,
    cli_evaluate,
    cli_export,
    cli_plan,
    cli_preflight,
    cli_publish,
    cli_runs,
    cli_serve,
)
from qdsft.arguments import positive
from qdsft.console import end_progress, is_main_process, quiet_libraries, say, standard_output
from qdsft.errors import Interrupted, UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 right, 1 a user error, 2 wrong usage, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    quiet_libraries()
    parser = build_parser()
    given, options_of_engine = cli_serve.split(sys.argv[1:] if arguments is None else arguments)
    options, rest = parser.parse_known_args(given)
    options.extra = options_of_engine
    if unknown := _take_positionals(options, rest):
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    handler: Callable[[argparse.Namespace], int] = options.handler
    try:
        status = handler(options)
        _flush()
        return status
    except UserError as error:
        if is_main_process():
            end_progress()
            print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        end_progress()
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
        elif not item.startswith("-") and getattr(options, "run_dir", item) is None:
            options.run_dir = Path(item)
        elif not item.startswith("-") and hasattr(options, "others"):
            options.others.append(Path(item))
        else:
            unknown.append(item)
    return unknown


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(prog="qdsft", description=qdsft.__doc__)
    parser.add_argument("--version", action="version", version=f"qdsft {qdsft.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    recipe = _recipe_command(commands, "recipe", "show a recipe's resolved values and where each comes from", _recipe)
    recipe.add_argument("--json", action="store_true", help="as JSON, with the method, the run directory and its state")
    _recipe_command(
        commands, "preflight", "build the run, check all that must hold before its first step", cli_preflight.run
    )
    _recipe_command(commands, "check", "check a recipe and its data, offline, without loading a model", _check)
    train = _recipe_command(commands, "train", "train as a recipe says, in this process", _train)
    train.add_argument("--resume", action="store_true", help="go on from the newest complete checkpoint")
    train.add_argument("--overwrite", action="store_true", help="delete an earlier run in the same directory")

    inspect = _recipe_command(commands, "inspect", "show training rows as the model sees them", _inspect)
    inspect.add_argument("-n", dest="rows", type=positive, default=3, metavar="N", help="rows to show (3)")

    cli_plan.add_commands(commands)
    cli_doctor.add_commands(commands)
    cli_evaluate.add_commands(commands)
    cli_compare.add_commands(commands)
    cli_decompose.add_commands(commands)
    cli_publish.add_commands(commands)
    cli_runs.add_commands(commands)
    cli_demo.add_commands(commands)
    cli_serve.add_commands(commands)
    cli_export.add_commands(commands)
    cli_data.add_commands(commands)
    return parser


def _recipe_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    help_text: str,
    handler: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help_text)
    parser.add_argument("recipe", metavar="RECIPE", help="a YAML file, or a shipped recipe such as tiny/full")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="values that replace the recipe's")
    parser.set_defaults(handler=handler)
    return parser


def _recipe(options: argparse.Namespace) -> int:
    import json

    from qdsft.recipe import load_recipe

    recipe = load_recipe(options.recipe, options.overrides)
    if options.json:
        from qdsft.run import run_state

        facts = {"name": recipe.name, "method": recipe.method}
        run = {"run_dir": str(recipe.run_dir), "run_state": run_state(recipe.run_dir)}
        values = {"values": recipe.resolved(), "origins": recipe.origins}
        print(json.dumps(facts | run | values, indent=2, ensure_ascii=False))
        return 0
    rows = recipe.rows()
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
    except Interrupted as error:
        say(str(error))
        return error.status
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
