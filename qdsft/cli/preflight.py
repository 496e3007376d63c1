"""`qdsft preflight`: build a run and check everything that must hold before its first step."""

from __future__ import annotations

import argparse

from qdsft.cli.arguments import add_recipe_command
from qdsft.console import has_colour, is_main_process, visible
from qdsft.errors import UserError

GREEN, RED, RESET = "\033[32m", "\033[31m", "\033[0m"


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `preflight` to the commands."""
    help_text = "build the run and check everything that must hold before its first step"
    add_recipe_command(commands, "preflight", help_text, _preflight)


def _preflight(options: argparse.Namespace) -> int:
    """Print each check when it is done. Raises UserError at the end if one failed."""
    from qdsft.recipe import load_recipe

    recipe = load_recipe(options.recipe, options.overrides)
    from qdsft.training.preflight import preflight

    colour = has_colour()
    failed = total = 0
    for check in preflight(recipe):
        word = "ok" if check.passed else "FAILED"
        if colour:
            word = f"{GREEN if check.passed else RED}{word}{RESET}{' ' * (6 - len(word))}"
        if is_main_process() or not check.passed:
            print(f"{check.name:<12} {word:<6}  {visible(check.found)}", flush=True)
        total += 1
        failed += not check.passed
    if failed:
        raise UserError(f"{failed} of {total} checks failed; each says what to do")
    return 0
