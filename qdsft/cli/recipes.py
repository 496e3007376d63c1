"""Commands that take a recipe: `qdsft recipe`, `check`, `inspect`, `preflight` and `train`."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable

from qdsft.cli.arguments import positive
from qdsft.console import say
from qdsft.environment import variable
from qdsft.errors import Interrupted, UserError
from qdsft.strict_json import to_json

GREEN, RED, RESET = "\033[32m", "\033[31m", "\033[0m"


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands of this module to the parser."""
    recipe = _add(commands, "recipe", "show the resolved values of a recipe and where each was set", _recipe)
    recipe.add_argument(
        "--json", action="store_true", help="print JSON, with the method, the run directory and its state"
    )
    _add(commands, "preflight", "build the run and check everything that must hold before its first step", _preflight)
    _add(commands, "check", "check a recipe and its data offline, without loading a model", _check)
    train = _add(commands, "train", "train a recipe in this process", _train)
    train.add_argument("--resume", action="store_true", help="resume from the newest complete checkpoint")
    train.add_argument("--overwrite", action="store_true", help="delete an earlier run in the run directory first")
    train.add_argument(
        "--accelerate",
        metavar="NAME",
        help="train on all GPUs: the name of a file in accelerate_configs, such as ddp or zero2, or a path",
    )
    inspect = _add(commands, "inspect", "show training rows as the model gets them", _inspect)
    inspect.add_argument("-n", dest="rows", type=positive, default=3, metavar="N", help="rows to show (default: 3)")


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    help_text: str,
    handler: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help_text)
    parser.add_argument("recipe", metavar="RECIPE", help="YAML file, or a shipped recipe such as tiny/full")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="values that replace the recipe's")
    parser.set_defaults(handler=handler)
    return parser


def _recipe(options: argparse.Namespace) -> int:
    from qdsft.recipe import load_recipe

    recipe = load_recipe(options.recipe, options.overrides)
    if options.json:
        from qdsft.runs.directory import run_state

        facts = {"name": recipe.name, "method": recipe.method}
        run = {"run_dir": str(recipe.run_dir), "run_state": run_state(recipe.run_dir)}
        values = {"values": recipe.resolved(), "origins": recipe.origins}
        print(to_json(facts | run | values, indent=2))
        return 0
    rows = recipe.rows()
    width = max(len(key) for key, _, _ in rows)
    for key, value, origin in rows:
        print(f"{key:<{width}}  {to_json(value):<40}  {origin}")
    return 0


def _check(options: argparse.Namespace) -> int:
    from qdsft.data.checks.check_recipe import check_recipe
    from qdsft.recipe import load_recipe

    for line in check_recipe(load_recipe(options.recipe, options.overrides)):
        print(line)
    return 0


def _inspect(options: argparse.Namespace) -> int:
    from qdsft.recipe import load_recipe

    recipe = load_recipe(options.recipe, options.overrides)
    from qdsft.tokenization.inspect_rows import inspect

    for line in inspect(recipe, options.rows, colour=_has_colour()):
        print(line)
    return 0


def _preflight(options: argparse.Namespace) -> int:
    """Print each check when it is done. Raises UserError at the end if one failed."""
    from qdsft.recipe import load_recipe

    recipe = load_recipe(options.recipe, options.overrides)
    from qdsft.training.preflight import preflight

    colour = _has_colour()
    failed = total = 0
    for check in preflight(recipe):
        word = "ok" if check.passed else "FAILED"
        if colour:
            word = f"{GREEN if check.passed else RED}{word}{RESET}{' ' * (6 - len(word))}"
        print(f"{check.name:<12} {word:<6}  {check.found}", flush=True)
        total += 1
        failed += not check.passed
    if failed:
        raise UserError(f"{failed} of {total} checks failed; each says what to do")
    return 0


def _train(options: argparse.Namespace) -> int:
    from qdsft.recipe import load_recipe

    recipe = load_recipe(options.recipe, options.overrides)
    if options.resume and options.overwrite:
        raise UserError("--resume and --overwrite contradict each other; give one of them")
    if options.accelerate is not None:
        from qdsft.cli.accelerate import launch

        flags = [flag for flag in ("--resume", "--overwrite") if vars(options)[flag.lstrip("-")]]
        return launch(options.accelerate, [options.recipe, *options.overrides, *flags])
    from qdsft.training.train import train

    try:
        run_dir = train(recipe, resume=options.resume, overwrite=options.overwrite)
    except Interrupted as error:
        say(str(error))
        return error.status
    except KeyboardInterrupt:
        say(f"\ninterrupted; resume with: {recipe.resume_command()}")
        return 130
    quoted = shlex.quote(str(run_dir))
    say(f'next: qdsft evaluate {quoted} --baseline, or: qdsft decompose {quoted} "your question"')
    return 0


def _has_colour() -> bool:
    return sys.stdout.isatty() and not variable("NO_COLOR")
