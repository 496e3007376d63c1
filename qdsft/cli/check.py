"""`qdsft check`: check a recipe and its data offline."""

from __future__ import annotations

import argparse

from qdsft.cli.arguments import add_recipe_command
from qdsft.console import print_result


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `check` to the commands."""
    add_recipe_command(commands, "check", "check a recipe and its data offline, without loading a model", _check)


def _check(options: argparse.Namespace) -> int:
    from qdsft.data.checks.check_recipe import check_recipe
    from qdsft.metrics.best_metric import check_best_metric
    from qdsft.recipe import load_recipe

    recipe = load_recipe(options.recipe, options.overrides)
    check_best_metric(recipe)
    for line in check_recipe(recipe):
        print_result(line)
    return 0
