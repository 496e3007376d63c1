"""`qdsft inspect`: training rows as the model gets them."""

from __future__ import annotations

import argparse

from qdsft.cli.arguments import add_recipe_command, positive
from qdsft.console import has_colour


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `inspect` to the commands."""
    inspect = add_recipe_command(commands, "inspect", "show training rows as the model gets them", _inspect)
    inspect.add_argument("-n", dest="rows", type=positive, default=3, metavar="N", help="rows to show (default: 3)")


def _inspect(options: argparse.Namespace) -> int:
    from qdsft.recipe import load_recipe

    recipe = load_recipe(options.recipe, options.overrides)
    from qdsft.tokenization.inspect_rows import inspect

    for line in inspect(recipe, options.rows, colour=has_colour()):
        print(line)  # with colours; `inspect` makes the text in them visible
    return 0
