"""`qdsft preflight`: a table of what must hold before the first step."""

from __future__ import annotations

import argparse
import os
import sys

from qdsft.errors import UserError

GREEN, RED, RESET = "\033[32m", "\033[31m", "\033[0m"


def run(options: argparse.Namespace) -> int:
    """Print each check as it is done; raises UserError at the end if one failed."""
    from qdsft.recipe import load_recipe

    recipe = load_recipe(options.recipe, options.overrides)
    from qdsft.preflight import preflight

    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
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
