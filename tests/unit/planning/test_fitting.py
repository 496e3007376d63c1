"""The search for the most that fits."""

from __future__ import annotations

import pytest
from helpers.model_configs import CONFIG
from helpers.paths import ROOT
from hypothesis import given
from hypothesis import strategies as st

from qdsft.errors import UserError
from qdsft.planning.cards import Target
from qdsft.planning.fitting import Fitting, largest
from qdsft.planning.memory.shapes import read_shapes
from qdsft.recipe import load_recipe


@given(st.integers(0, 5000), st.integers(-1, 6000))
def test_the_largest_is_found(limit: int, bound: int) -> None:
    assert largest(limit, lambda number: number <= bound) == max(min(limit, bound), 0)


def test_a_length_comes_from_the_recipe_or_the_data_or_the_model() -> None:
    recipe = load_recipe(ROOT / "recipes/llama2/qlora_8gb.yaml", ["training.max_length=null", "training.packing=false"])
    shapes = read_shapes(CONFIG, "x")
    assert Fitting(shapes, Target(8 * 2**30), None).setup(recipe).length == 4096
    endless = read_shapes({**CONFIG, "max_position_embeddings": None}, "x")
    with pytest.raises(UserError, match=r"the length of the longest row is unknown; set training\.max_length"):
        Fitting(endless, Target(8 * 2**30), None).setup(recipe)
