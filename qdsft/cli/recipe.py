"""`qdsft recipe`: the resolved values of a recipe and where each was set, or with --new recipes for a new model."""

from __future__ import annotations

import argparse
from pathlib import Path

from qdsft.cli.arguments import add_recipe_command
from qdsft.console import print_result, say
from qdsft.strict_json import to_json


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `recipe` to the commands."""
    help_text = "show the resolved values of a recipe and where each was set, or write recipes for a new model"
    recipe = add_recipe_command(commands, "recipe", help_text, _recipe, nargs="?")
    recipe.set_defaults(usage_error=recipe.error)
    recipe.add_argument(
        "--json", action="store_true", help="print JSON, with the method, the run directory and its state"
    )
    recipe.add_argument("--new", metavar="MODEL", help="write a folder of recipes for a Hub model or a local folder")
    recipe.add_argument("--output", type=Path, metavar="DIR", help="with --new: the folder (default: recipes/MODEL)")


def _recipe(options: argparse.Namespace) -> int:
    if options.new is not None:
        return _new_recipe(options)
    if options.recipe is None:
        options.usage_error("give a RECIPE, or --new MODEL")
    if options.output is not None:
        options.usage_error("--output belongs to --new")
    from qdsft.recipe import load_recipe

    recipe = load_recipe(options.recipe, options.overrides)
    if options.json:
        from qdsft.runs.directory import run_state

        facts = {"name": recipe.name, "method": recipe.method}
        run = {"run_dir": str(recipe.run_dir), "run_state": run_state(recipe.run_dir)}
        values = {"values": recipe.resolved(), "origins": recipe.origins}
        print_result(to_json(facts | run | values, indent=2))
        return 0
    rows = recipe.rows()
    width = max(len(key) for key, _, _ in rows)
    for key, value, origin in rows:
        print_result(f"{key:<{width}}  {to_json(value):<40}  {origin}")
    return 0


def _new_recipe(options: argparse.Namespace) -> int:
    if options.json:
        options.usage_error("--json shows a recipe, and --new writes one")
    say(f"reading the config and tokenizer of {options.new}")
    from qdsft.tokenization.new_recipe import new_recipe

    overrides = [item for item in (options.recipe, *options.overrides) if item is not None]
    for line in new_recipe(options.new, options.output, overrides):
        print_result(line)
    return 0
