"""`qdsft recipe`: the resolved values of a recipe and where each was set."""

from __future__ import annotations

import argparse

from qdsft.cli.arguments import add_recipe_command
from qdsft.strict_json import to_json


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `recipe` to the commands."""
    help_text = "show the resolved values of a recipe and where each was set"
    recipe = add_recipe_command(commands, "recipe", help_text, _recipe)
    recipe.add_argument(
        "--json", action="store_true", help="print JSON, with the method, the run directory and its state"
    )


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
