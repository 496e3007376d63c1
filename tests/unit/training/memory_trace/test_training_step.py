"""A step's components: what a number in the recipe does to them."""

from __future__ import annotations

import pytest
from helpers.traced import most, recipe_of, trace, tracer_of

from qdsft.planning.peak import ACTIVATIONS, ADAPTERS, GRADIENTS, LOSS, OPTIMIZER, PAGED, TEMPORARIES, WEIGHTS
from qdsft.planning.way import Way


def test_full_fine_tuning_takes_16_bytes_a_weight() -> None:
    step = trace("full", "training.global_batch_size=8")
    elements = most(step, WEIGHTS) / 4
    assert most(step, GRADIENTS) == pytest.approx(4 * elements, rel=0.01)
    assert most(step, OPTIMIZER) == pytest.approx(8 * elements, rel=0.01)
    assert most(step, ADAPTERS) == 0


@pytest.mark.parametrize(
    ("optimizer", "bytes_a_weight", "temporaries"),
    [
        ("adamw_torch_fused", 8, 0),
        ("adamw_torch", 8, 4),
        ("adamw_8bit", 2, 0),
        ("lion_8bit", 1, 0),
        ("ademamix", 12, 0),
        ("sgd", 0, 0),
    ],
)
def test_optimizers_keep_what_they_keep(optimizer: str, bytes_a_weight: float, temporaries: float) -> None:
    step = trace("lora", f"training.optim={optimizer}", length=16)
    elements = most(step, ADAPTERS) / 4
    # States of fewer than 4096 elements stay in float32.
    assert most(step, OPTIMIZER) == pytest.approx(bytes_a_weight * elements, rel=0.35 if "8bit" in optimizer else 0.02)
    assert step.phases["optimizer step"].get(TEMPORARIES, 0) == pytest.approx(temporaries * elements, rel=0.1)


def test_paging_takes_large_states_alone() -> None:
    plain, paged, large = (
        trace("lora", f"training.optim={optimizer}", f"lora.r={rank}", length=16)
        for optimizer, rank in (("adamw_torch_fused", 16), ("paged_adamw_32bit", 16), ("paged_adamw_32bit", 512))
    )
    assert most(paged, PAGED) == 0 and most(paged, OPTIMIZER) == pytest.approx(most(plain, OPTIMIZER), rel=0.01)
    assert most(large, PAGED) > 10 * most(large, OPTIMIZER)
    assert large.allocated < large.allocated + most(large, PAGED)


def test_gradients_of_an_earlier_micro_batch_are_there_if_there_is_one() -> None:
    one, eight = (trace("lora", f"training.global_batch_size={size}") for size in (1, 8))
    assert one.phases["forward pass"].get(GRADIENTS, 0) == 0
    assert eight.phases["forward pass"][GRADIENTS] == most(one, GRADIENTS) > 0


def test_checkpointing_keeps_inputs_of_layers_and_recomputes_one() -> None:
    every, some, none = (trace(way=way) for way in (Way(True), Way(True, 2), Way(False)))
    kept = [step.phases["loss"][ACTIVATIONS] for step in (every, some, none)]
    assert kept == sorted(set(kept))


def test_dropout_keeps_a_copy_of_inputs() -> None:
    plain, dropout = (trace("lora", f"lora.lora_dropout={value}", way=Way(False)) for value in (0.0, 0.1))
    assert dropout.phases["loss"][ACTIVATIONS] > 1.05 * plain.phases["loss"][ACTIVATIONS]


@pytest.mark.parametrize("packing", ["true", "false"])
def test_eager_attention_keeps_scores(packing: str) -> None:
    given = f"training.packing={packing}", "training.activation_checkpointing=true"
    sdpa, eager = (trace("lora", f"model.attn_implementation={name}", *given, length=512) for name in ("sdpa", "eager"))
    scores = 4 * 512 * 512 * 2
    assert most(eager, ACTIVATIONS) > most(sdpa, ACTIVATIONS) + scores


def test_flash_attention_needs_no_mask_for_packed_rows() -> None:
    flash, sdpa = (
        trace("lora", f"model.attn_implementation={name}", length=2048) for name in ("flash_attention_2", "sdpa")
    )
    difference = sdpa.phases["loss"][ACTIVATIONS] - flash.phases["loss"][ACTIVATIONS]
    assert difference == pytest.approx(2048 * 2048, rel=0.3), "one byte a pair"


def test_more_rows_need_more() -> None:
    tracer, recipe = tracer_of(), recipe_of("lora", "training.packing=false")
    totals = [tracer.training(recipe, rows, 64, Way(True)).allocated for rows in (1, 2, 4)]
    assert totals == sorted(set(totals))


def test_the_loss_grows_with_the_vocabulary_until_a_tile_is_full() -> None:
    small, large = (trace("lora", length=64, vocab_size=size) for size in (4000, 32768))
    assert small.phases["loss"][LOSS] == pytest.approx(large.phases["loss"][LOSS], rel=0.05), "a tile has a fixed width"


@pytest.mark.parametrize("method", ["lora", "qlora_8gb"])
def test_adapters_are_float32(method: str) -> None:
    tracer, recipe = tracer_of(), recipe_of(method)
    assert most(tracer.training(recipe, 1, 64, Way(True)), ADAPTERS) == 4 * tracer.sizes(recipe).trained
