"""`qdsft plan`: what a recipe needs on a card, before it is run."""

from __future__ import annotations

import argparse

from qdsft.cli.arguments import positive
from qdsft.errors import UserError

MOST_GIB = 1_000_000


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `plan` to the commands."""
    plan = commands.add_parser(
        "plan", help="peak memory of a recipe by component, and what to change if it is too much"
    )
    plan.add_argument("recipe", metavar="RECIPE", help="a YAML file, such as recipes/tiny/full.yaml")
    plan.add_argument("overrides", nargs="*", metavar="section.key=value", help="values that replace the recipe's")
    plan.add_argument("--gpu-memory", type=_gib, metavar="GIB", help="memory of a card (8)")
    plan.add_argument("--gpu", metavar="NAME", help="a card by its name, such as 'RTX 4060'")
    plan.add_argument("--gpus", type=positive, default=1, metavar="N", help="number of cards (1)")
    plan.add_argument("--zero", type=int, choices=(0, 1, 2, 3), default=0, help="DeepSpeed ZeRO stage (0: none)")
    plan.add_argument("--json", action="store_true", help="everything as JSON, in bytes")
    plan.set_defaults(handler=_plan)


def _plan(options: argparse.Namespace) -> int:
    from qdsft.planning.cards import Target, find_card

    if options.gpu is not None and options.gpu_memory:
        raise UserError("--gpu and --gpu-memory both say how much memory a card has; give one of them")
    name, card = find_card(options.gpu) if options.gpu is not None else (None, None)
    memory = card.memory if card else int((options.gpu_memory or 8.0) * 2**30)
    from qdsft.planning.plan import make_plan

    plan = make_plan(options.recipe, options.overrides, Target(memory, options.gpus, options.zero, name, card))
    if options.json:
        import json

        print(json.dumps(plan.to_json(), indent=2, ensure_ascii=False))
        return 0
    from qdsft.planning.table import report

    for line in report(plan):
        print(line)
    return 0


def _gib(text: str) -> float:
    number = float(text)
    if not 0 < number < MOST_GIB:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and {MOST_GIB:,}")
    return number
