"""What fits: lengths, micro-batches, recomputation, and what is asked of the tracer only once."""

from __future__ import annotations

import pytest
from helpers.paths import ROOT
from helpers.plain_tracer import PlainTracer

from qdsft.errors import UserError
from qdsft.planning.cards import Target
from qdsft.planning.fitting import EVERY, SPARED, Fitting
from qdsft.planning.peak import GIB
from qdsft.recipe import Recipe, load_recipe

QLORA = "recipes/mistral/qlora_8gb.yaml"


def recipe_of(path: str = QLORA, *overrides: str) -> Recipe:
    return load_recipe(ROOT / path, overrides)


def fitting(memory: float = 8, positions: int | None = 32768, count: int = 1, **target: bool | int) -> Fitting:
    return Fitting(PlainTracer(positions), Target(int(memory * GIB), count, **target), None)  # type: ignore[arg-type]


def test_a_length_comes_from_the_recipe_or_the_data_or_the_model() -> None:
    recipe = recipe_of(QLORA, "training.max_length=null", "training.packing=false")
    assert fitting(positions=4096).setup(recipe).length == 4096
    with pytest.raises(UserError, match=r"the length of the longest row is unknown; set training\.max_length"):
        fitting(positions=None).setup(recipe)


def test_the_most_that_fits_fits_and_more_does_not() -> None:
    recipe = recipe_of()
    for memory in (1.5, 2.0, 3.0):
        found = fitting(memory)
        setup = found.setup(recipe)
        length, rows = found.largest_length(recipe, setup), found.largest_micro_batch(recipe, setup)
        assert length and rows
        assert found.training(recipe_of(QLORA, f"training.max_length={length}")).total <= memory * GIB
        longer = recipe_of(QLORA, f"training.max_length={int(1.04 * length) + 64}")
        assert length == 32768 or found.training(longer).total > memory * GIB
    assert fitting(0.5).largest_length(recipe, setup) is None
    assert fitting(0.5).largest_micro_batch(recipe, setup) is None
    assert fitting(80, positions=2048).largest_length(recipe, setup) == 2048


@pytest.mark.parametrize("scored", [(), ("training.eval_strategy=epoch",), ("evaluation.every_steps=5",)], ids=str)
@pytest.mark.parametrize("rows", ["packing=true", "packing=false", "padding_free=true"])
def test_the_search_asks_for_the_rows_of_the_recipe(rows: str, scored: tuple[str, ...]) -> None:
    """Held-out rows have the length of the recipe, however many rows are trained at a time."""
    both = ("training.packing=false", f"training.{rows}", "training.per_device_train_batch_size=2", *scored)
    recipe = recipe_of(QLORA, *both, "training.max_length=512")
    found = fitting(2.0)
    setup = found.setup(recipe)
    assert isinstance(found.tracer, PlainTracer)
    found.training(recipe)
    assert found.tracer.asked == [(2, 512)], "the tracer packs"
    assert found.largest_micro_batch(recipe, setup) and found.largest_length(recipe, setup)
    one_search = not scored and rows != "packing=false"
    assert one_search == all(count == 1 for count, _ in found.tracer.asked[1:])
    if not one_search:
        assert all(count == 2 or length == 512 for count, length in found.tracer.asked)


def test_more_memory_means_less_recomputation_and_each_choice_fits() -> None:
    recipe, shares = recipe_of("recipes/mistral/qlora.yaml"), []
    for quarter in range(4, 24):
        found = fitting(quarter / 4)
        setup = found.setup(recipe)
        assert setup.adaptive
        shares.append(setup.way.checkpointing / setup.way.every_n_layers)
        if shares[-1] < 1:
            assert found.training(recipe).total <= (1 - SPARED) * quarter / 4 * GIB
    assert shares == sorted(shares, reverse=True) and set(shares) >= {0, 1 / EVERY[0], 1}


def test_sharded_runs_recompute_every_layer() -> None:
    recipe = recipe_of("recipes/mistral/lora.yaml")
    for target in ({"zero": 3}, {"fsdp": True}):
        assert fitting(80, count=2, **target).setup(recipe).way.describe() == "every layer is recomputed"  # type: ignore[arg-type]


@pytest.mark.parametrize(("target", "message"), [({"zero": 3}, "--zero 3 cannot"), ({"fsdp": True}, "--fsdp cannot")])
def test_quantized_weights_are_not_sharded(target: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=f"{message} shard quantized weights"):
        fitting(80, count=2, **target).setup(recipe_of())


def test_a_batch_that_cannot_be_divided() -> None:
    with pytest.raises(UserError, match="global_batch_size 8 is not a multiple"):
        fitting(count=3).setup(recipe_of())
