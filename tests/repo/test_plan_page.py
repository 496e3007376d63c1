"""docs/PLAN.md: its table is what `qdsft plan` says."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from helpers.paths import ROOT

from qdsft.model.device import Machine
from qdsft.planning.cards import Target
from qdsft.planning.config_file import read_config
from qdsft.planning.fitting import LENGTH_STEP, Fitting
from qdsft.planning.workload import estimate_workload
from qdsft.recipe import load_recipe
from qdsft.training.memory_trace.tracer import StepTracer
from qdsft.training.plan import make_config

CARDS = (8, 24, 40, 80)
MADE_FOR = {"qlora_8gb": 8, "qlora": 24, "lora": 40, "full": 80}
FAMILIES = ("llama2", "mistral", "koalpaca", "qwen3_4b", "llama3_korean")
STEPS_OF_LENGTH = 1.04
"""The search for the longest row ends where this many times more does not fit."""


def rows() -> list[str]:
    page = (ROOT / "docs" / "PLAN.md").read_text(encoding="utf-8")
    return re.findall(r"^\| \w+/\w+ \|(?: [^|]+\|){7}$", page, re.M)


def test_every_large_recipe_is_in_the_table() -> None:
    recipes = [path for family in FAMILIES for path in (ROOT / "recipes" / family).glob("*.yaml")]
    assert {f"{path.parent.name}/{path.stem}" for path in recipes} == {line.split(" | ")[0][2:] for line in rows()}


def check_row(line: str) -> None:
    name, *cells = line.strip("| ").split(" | ")
    recipe = load_recipe(ROOT / f"recipes/{name}.yaml")
    tracer = StepTracer(make_config(recipe, *read_config(recipe)), Machine("cuda", "a GPU", torch.bfloat16))
    memory = MADE_FOR[recipe.path.stem] * 2**30
    fitting = Fitting(tracer, Target(memory), estimate_workload(recipe)[0])
    training = fitting.training(recipe)
    found = [training.total, training.reserved, fitting.evaluation(recipe).total]
    assert cells[:3] == [f"{size / 2**30:.1f}" for size in found]
    # Each length takes traces: those of the GPU that the recipe is made for stand for the others.
    card = MADE_FOR[recipe.path.stem]
    check_length(fitting, recipe, card * 2**30, cells[3:][CARDS.index(card)])


def check_length(fitting: Fitting, recipe: Any, memory: int, cell: str) -> None:
    on_card = Fitting(fitting.tracer, Target(memory), fitting.workload)
    fits = on_card.largest_total(recipe) <= memory
    assert fits == (cell != "no")
    if not fits:
        return
    length = int(cell.replace(",", ""))
    assert length % LENGTH_STEP == 0 and length <= (fitting.tracer.positions or 2**20)

    def peak(tokens: int) -> float:
        changed = load_recipe(recipe, [f"training.max_length={tokens}", "training.activation_checkpointing=true"])
        return on_card.training(changed).total

    assert peak(length) <= memory
    if length < (fitting.tracer.positions or 2**20):
        assert peak(int(STEPS_OF_LENGTH * length) + LENGTH_STEP) > memory


@pytest.mark.slow
@pytest.mark.parametrize("line", rows(), ids=lambda line: line.split(" | ")[0][2:])
def test_the_table_is_what_the_command_says(line: str) -> None:
    check_row(line)
