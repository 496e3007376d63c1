"""Changes for recipes that do not fit: planning again with them gives the promised memory."""

from __future__ import annotations

from typing import Any

import pytest

from qdsft.planning.plan import Plan


def overrides_of(found: Plan) -> list[str]:
    return [override for change in found.changes for override in change.overrides]


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("training.per_device_train_batch_size=8", "training.global_batch_size=16", "training.packing=false"),
        ("model.attn_implementation=eager", "training.max_length=4096"),
        ("lora.lora_dropout=0.1", "training.activation_checkpointing=false", "training.optim=adamw_torch"),
        ("evaluation.batch_size=256",),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    ("method", "memory"),
    [("qlora_8gb", 0.9), ("qlora_8gb", 1.2), ("lora", 1.6), ("lora", 3.0), ("full", 0.9), ("full", 6.0)],
)
def test_advice_does_what_it_says(method: str, overrides: tuple[str, ...], memory: float, plan: Any) -> None:
    if method == "full":
        overrides = tuple(override for override in overrides if not override.startswith("lora."))
    path = f"recipes/llama2/{method}.yaml"
    before = plan(path, *overrides, memory=memory)
    after = plan(path, *overrides, *overrides_of(before), memory=memory)
    assert not (before.fits and before.changes)
    if before.changes:
        assert after.fits == before.changes[-1].fits
        assert max(after.training.total, after.evaluation.total) == before.changes[-1].total
        totals = [change.total for change in before.changes]
        assert totals == sorted(totals, reverse=True)


def test_the_first_advice_costs_nothing(plan: Any) -> None:
    found = plan("recipes/llama2/qlora_8gb.yaml", "training.per_device_train_batch_size=8", memory=1.3)
    assert overrides_of(found)[0].startswith("training.per_device_train_batch_size=")
    kept = plan("recipes/llama2/lora.yaml", "training.activation_checkpointing=false", memory=4)
    assert overrides_of(kept)[0] == "training.activation_checkpointing=true"


def test_the_batch_of_a_step_is_kept(plan: Any) -> None:
    batch = ("training.per_device_train_batch_size=6", "training.global_batch_size=null", "training.packing=false")
    found = plan("recipes/llama2/qlora_8gb.yaml", *batch, memory=1.25)
    assert "training.global_batch_size=6" in found.changes[0].overrides


def test_fewer_rows_are_decoded_together(plan: Any) -> None:
    path = "recipes/llama2/qlora_8gb.yaml"
    totals = [plan(path, f"evaluation.batch_size={rows}").evaluation.total for rows in (1, 4, 16, 64)]
    assert totals == sorted(set(totals))
    found = plan(path, "evaluation.batch_size=1024", memory=3)
    assert found.changes[0].overrides[0].startswith("evaluation.batch_size=") and found.changes[0].fits
