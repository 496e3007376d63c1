"""Plans of the shipped recipes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.model_configs import RECIPE_CONFIGS
from helpers.paths import ROOT

from qdsft.errors import UserError
from qdsft.planning.cards import Card, Measured
from qdsft.planning.memory.training_memory import GIB
from qdsft.planning.table import report

RECIPES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in ROOT.glob("recipes/**/*.yaml")
    if path.parent.name in RECIPE_CONFIGS  # not yet planned: other architectures
)


def test_every_planned_folder_has_recipes() -> None:
    assert {Path(path).parent.name for path in RECIPES} == RECIPE_CONFIGS.keys()


@pytest.mark.parametrize("path", RECIPES)
def test_every_recipe_plans(path: str, plan: Any) -> None:
    found = plan(path, memory=80)
    assert found.training.total > found.training.components["weights"] > 0
    assert found.evaluation.total > 0
    assert found.workload.rows > 0 and found.steps > 0
    assert json.loads(json.dumps(found.to_json()))["modelled"] is True
    assert list(report(found))


@pytest.mark.parametrize("path", [path for path in RECIPES if path.endswith("_8gb.yaml")])
def test_an_8_gb_recipe_fits_8_gb_with_a_display(path: str, plan: Any) -> None:
    found = plan(path, memory=7.2)
    assert found.fits and not found.changes, list(report(found))
    assert found.training.allocated < 6.2 * GIB


@pytest.mark.parametrize(("method", "memory"), [("qlora", 24), ("lora", 40)])
@pytest.mark.parametrize("family", ["llama2", "mistral", "koalpaca"])
def test_the_larger_recipes_fit_their_cards(family: str, method: str, memory: float, plan: Any) -> None:
    assert plan(f"recipes/{family}/{method}.yaml", memory=memory).fits


@pytest.mark.parametrize("family", ["llama2", "mistral", "koalpaca"])
def test_full_fine_tuning_wants_zero_3(family: str, plan: Any) -> None:
    path = f"recipes/{family}/full.yaml"
    assert not plan(path, memory=80).fits
    assert plan(path, memory=80, count=4, zero=3).fits
    totals = [plan(path, memory=80, count=8, zero=stage).training.total for stage in (1, 2, 3)]
    assert totals == sorted(totals, reverse=True)


def test_the_most_that_fits_fits_and_more_does_not(plan: Any) -> None:
    path = "recipes/llama2/qlora_8gb.yaml"
    found = plan(path)
    length, rows = found.largest_length, found.largest_micro_batch
    assert plan(path, f"training.max_length={length}").fits
    assert length == found.shapes.positions or not plan(path, f"training.max_length={length + 64}").fits
    batch = "training.per_device_train_batch_size={0} training.global_batch_size={0}"
    assert plan(path, *batch.format(rows).split()).training.total <= 8 * GIB
    assert plan(path, *batch.format(rows + 1).split()).training.total > 8 * GIB
    assert plan(path, memory=2).largest_length is None


def test_time_and_cost_come_from_a_measured_run_alone(plan: Any) -> None:
    path = "recipes/llama2/qlora_8gb.yaml"
    card = Card(memory_mib=8188, bfloat16=True)
    unknown = plan(path, name="RTX 4060", card=card)
    assert unknown.hours is None
    assert any("no measured run of this recipe on RTX 4060 yet" in line for line in report(unknown))
    entry = Measured(recipe="llama2-qlora_8gb", tokens_per_second=1.0, usd_per_hour=2.0, source="a run")
    known = plan(path, name="RTX 4060", card=card.model_copy(update={"measured": (entry,)}))
    assert known.hours == pytest.approx(known.tokens_seen / 3600)
    assert known.usd == pytest.approx(2 * known.hours)
    assert any("from a measured run on RTX 4060" in line for line in report(known))


def test_saving_counts_checkpoints(plan: Any) -> None:
    adapters = plan("recipes/llama2/qlora_8gb.yaml").saving
    assert (adapters.kept, adapters.result) == (3, 2 * 39_976_960)
    assert adapters.checkpoint == pytest.approx(4 * 39_976_960, rel=0.02)
    full = plan("recipes/llama2/full.yaml", memory=80, count=8, zero=3).saving
    assert full.kept == 2  # save_total_limit: 1, and the one that is being written
    assert full.checkpoint == 14 * 6_738_415_616
    assert plan("recipes/llama2/qlora_8gb.yaml", "training.save_strategy=no").saving.kept == 0


def test_more_decoded_together_needs_more(plan: Any) -> None:
    path = "recipes/llama2/qlora_8gb.yaml"
    totals = [plan(path, f"evaluation.batch_size={rows}").evaluation.total for rows in (1, 4, 16, 64)]
    assert totals == sorted(set(totals))
    found = plan(path, "evaluation.batch_size=64")
    assert found.changes[0].overrides[0].startswith("evaluation.batch_size=") and found.changes[0].fits


def test_zero_wants_several_cards(plan: Any) -> None:
    with pytest.raises(UserError, match="--zero shards over several GPUs; add --gpus 2"):
        plan("recipes/llama2/full.yaml", zero=2)
