"""Plans: what is told of a recipe besides its peaks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from qdsft.errors import UserError

PATH = "recipes/llama2/qlora_8gb.yaml"


def test_json_holds_all_of_it(plan: Any) -> None:
    found = plan(PATH)
    assert found.workload.rows > 0 and found.steps > 0
    values = json.loads(json.dumps(found.to_json()))
    assert values["modelled"] is True
    assert values["training"]["reserved"] >= values["training"]["allocated"]
    assert values["training"]["allocated"] < values["training"]["total"] == found.training.total
    assert (values["fsdp"], values["offload"], values["zero"]) == (False, False, 0)


@pytest.mark.parametrize(("memory", "fits", "tight"), [(0.5, False, False), (1.5, True, True), (8, True, False)])
def test_a_plan_fits_or_is_tight(memory: float, fits: bool, tight: bool, plan: Any) -> None:
    found = plan(PATH, memory=memory)
    assert (found.fits, found.tight) == (fits, tight), found.training.total / 2**30
    assert bool(found.changes) == (not fits)


def test_saving_counts_checkpoints(plan: Any) -> None:
    adapters = plan(PATH).saving
    trained = 16 * 2**20
    assert (adapters.kept, adapters.result, adapters.checkpoint) == (3, 2 * trained, 4 * trained)
    assert adapters.disk == adapters.result + 3 * adapters.checkpoint
    full = plan("recipes/llama2/full.yaml", memory=80).saving
    assert full.kept == 2  # save_total_limit: 1, and the one that is being written
    assert plan(PATH, "training.save_strategy=no").saving.kept == 0


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"zero": 2}, "--zero shards over several GPUs; add --gpus 2"),
        ({"fsdp": True}, "--fsdp shards over several GPUs; add --gpus 2"),
        ({"count": 2, "zero": 2, "fsdp": True}, "--zero and --fsdp are two ways to shard"),
        ({"count": 2, "offload": True}, "--offload moves what is sharded"),
    ],
)
def test_options_that_contradict_each_other(target: dict[str, Any], message: str, plan: Any) -> None:
    with pytest.raises(UserError, match=message):
        plan("recipes/llama2/full.yaml", **target)
