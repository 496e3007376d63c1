"""Decoding: the cache of keys and values, and the row whose loss is scored."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.traced import most, recipe_of, tracer_of

from qdsft.planning.peak import CACHE, WEIGHTS, Traced
from qdsft.planning.way import Way


def decode(rows: int = 4, prompt: int = 64, new: int = 32, **options: Any) -> Traced:
    recipe = recipe_of("lora", f"evaluation.batch_size={rows}", f"evaluation.max_new_tokens={new}")
    return tracer_of(full=True, **options).evaluation(recipe, prompt)


@pytest.mark.parametrize(("rows", "prompt", "new"), [(4, 64, 32), (8, 100, 1)])
def test_the_cache_holds_keys_and_values_of_all_tokens(rows: int, prompt: int, new: int) -> None:
    found = decode(rows, prompt, new)
    layers, width = 3, 2 * 64
    assert found.phases["prompt"][CACHE] == pytest.approx(2 * 2 * layers * width * rows * prompt, rel=0.1)
    one_layer_twice = 2 * 2 * (layers + 1) * width * rows * (prompt + new)
    assert found.phases["last token"][CACHE] == pytest.approx(one_layer_twice, rel=0.1)


def test_a_window_bounds_the_cache() -> None:
    window: dict[str, Any] = {"sliding_window": 16, "layer_types": ["sliding_attention"] * 3}
    whole, bounded = decode(prompt=200), decode(prompt=200, architecture="gemma3_text", **window)
    assert bounded.phases["last token"][CACHE] < whole.phases["last token"][CACHE] / 5


def test_the_loss_is_scored_without_the_cache_one_row_at_a_time() -> None:
    one, many = decode(1), decode(16)
    assert sum(one.phases["loss"].values()) == pytest.approx(sum(many.phases["loss"].values()), rel=0.001)
    assert one.phases["loss"].get(CACHE, 0) == 0


def test_evaluation_loads_16_bit_weights_even_after_full_fine_tuning() -> None:
    tracer = tracer_of()
    training = tracer.training(recipe_of("full"), 1, 64, Way(True))
    assert most(training, WEIGHTS) == pytest.approx(
        2 * most(tracer.evaluation(recipe_of("full"), 64), WEIGHTS), rel=0.01
    )
