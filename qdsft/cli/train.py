"""`qdsft train`: train a recipe. `scripts/run_sft.py` runs this command in every process of a launch."""

from __future__ import annotations

import argparse
import shlex

from qdsft.cli.arguments import add_recipe_command
from qdsft.console import say
from qdsft.errors import Interrupted, UserError


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `train` to the commands."""
    train = add_recipe_command(commands, "train", "train a recipe in this process", _train)
    train.add_argument("--resume", action="store_true", help="resume from the newest complete checkpoint")
    train.add_argument("--overwrite", action="store_true", help="delete an earlier run in the run directory first")
    train.add_argument(
        "--accelerate",
        metavar="NAME",
        help="train on all GPUs: the name of a file in accelerate_configs, such as ddp or zero2, or a path",
    )


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
