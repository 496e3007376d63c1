"""Trace every shipped recipe, and write the table of docs/PLAN.md.

python scripts/make_plan_table.py            write the table
python scripts/make_plan_table.py --check    exit 1 if the page differs
python scripts/make_plan_table.py --full     print how far short stacks are from whole models

Names of recipes, such as mistral/lora, restrict each to their rows.
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from qdsft.model.device import Machine
from qdsft.planning.cards import Target
from qdsft.planning.config_file import read_config
from qdsft.planning.fitting import Fitting
from qdsft.planning.peak import GIB
from qdsft.planning.workload import estimate_workload
from qdsft.recipe import Recipe, load_recipe
from qdsft.training.memory_trace.tracer import StepTracer
from qdsft.training.plan import make_config

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "PLAN.md"
ROW = re.compile(r"^\| (\w+/\w+) \|(?: [^|]+\|){7}\n", re.MULTILINE)
CARDS = (8, 24, 40, 80)
"""GiB of the GPUs whose longest rows are in the table."""
MADE_FOR = {"qlora_8gb": 8, "qlora": 24, "lora": 40, "full": 80}
"""GiB of the GPU that a recipe is made for, by its name."""


def recipes() -> list[str]:
    """Return the recipes that carry the dimensions of their model, such as mistral/lora."""
    found = [path for path in ROOT.glob("recipes/*/*.yaml") if (path.parent / "config.json").is_file()]
    return sorted(f"{path.parent.name}/{path.stem}" for path in found)


def has_row(name: str) -> bool:
    """Return whether the table has a row for a recipe: those of `tasks` are like the one of their model."""
    return name.split("/")[1] in MADE_FOR


def make_tracer(recipe: Recipe, *, full: bool = False) -> StepTracer:
    """Return the tracer of a recipe on a GPU with bfloat16."""
    config = make_config(recipe, *read_config(recipe))
    return StepTracer(config, Machine("cuda", "a GPU", torch.bfloat16), full=full)


def make_planner(name: str, recipe: Recipe) -> Fitting:
    """Return the planner of a recipe on the GPU it is made for."""
    memory = MADE_FOR.get(name.split("/")[1], 8) * GIB
    return Fitting(make_tracer(recipe), Target(memory), estimate_workload(recipe)[0])


def make_peaks(planner: Fitting, recipe: Recipe) -> list[str]:
    """Return the peak of training, what is reserved then, and the peak of evaluation in GiB."""
    training, evaluation = planner.training(recipe), planner.evaluation(recipe)
    return [f"{size / GIB:.1f}" for size in (training.total, training.reserved, evaluation.total)]


def make_row(name: str) -> str:
    """Return the row of a recipe."""
    recipe = load_recipe(ROOT / f"recipes/{name}.yaml")
    planner = make_planner(name, recipe)
    cells = make_peaks(planner, recipe)
    for card in CARDS:
        on_card = Fitting(planner.tracer, Target(card * GIB), planner.workload)
        fits = on_card.largest_total(recipe) <= card * GIB
        cells.append(f"{on_card.largest_length(recipe, on_card.setup(recipe)):,}" if fits else "no")
    return f"| {' | '.join([name, *cells])} |\n"


def difference(name: str) -> float:
    """Return how far the step from short stacks is from that of all layers, as a share of the latter."""
    recipe = load_recipe(ROOT / f"recipes/{name}.yaml")
    planner = make_planner(name, recipe)
    setup = planner.setup(recipe)
    short, whole = (
        tracer.training(recipe, setup.micro_batch, setup.length, setup.way).allocated
        for tracer in (planner.tracer, make_tracer(recipe, full=True))
    )
    return short / whole - 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Write, check or compare."""
    parser = argparse.ArgumentParser(description="Trace every shipped recipe, and write the table of docs/PLAN.md.")
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help="such as mistral/lora (default: all)")
    parser.add_argument("--check", action="store_true", help="exit with status 1 if the page differs; write nothing")
    parser.add_argument("--full", action="store_true", help="print how far short stacks are from whole models")
    options = parser.parse_args(arguments)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    if options.full:
        for name in options.recipes or recipes():
            print(f"{name}: {difference(name):+.3%}", flush=True)
        return 0
    page = PAGE.read_text(encoding="utf-8")
    old = {match[1]: match[0] for match in ROW.finditer(page)}
    new = {}
    for name in options.recipes or filter(has_row, recipes()):
        new[name] = make_row(name)
        print(new[name], end="", flush=True)
    changed = [name for name, row in new.items() if old.get(name) != row]
    if options.check:
        print(f"{PAGE.name}: {len(new)} rows recomputed, {len(changed)} differ: {', '.join(changed)}")
        return bool(changed)
    rows = old | new
    order = [*old, *(name for name in new if name not in old)]
    places = [match.span() for match in ROW.finditer(page)]
    table = "".join(rows[name] for name in order)
    PAGE.write_text(page[: places[0][0]] + table + page[places[-1][1] :], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
