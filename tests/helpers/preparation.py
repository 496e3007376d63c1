"""Recipes on tiny models, and their prepared data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from helpers.architectures import ARCHITECTURES

from qdsft.model.loading import load_config, load_tokenizer, stop_token_ids
from qdsft.recipe import Recipe, load_recipe
from qdsft.tokenization.prepared import Prepared, prepare

EXAMPLES = ("data.train=data/examples/sample_train.jsonl", "data.eval=data/examples/sample_eval.jsonl")
"""Fewer rows than those of the tiny recipe."""


def tiny_recipe(path: str, tiny_model: Callable[[str], Path], *overrides: str) -> Recipe:
    """Return a recipe with a tiny model instead of its model."""
    folder = Path(path).parent.name
    data = EXAMPLES if folder == "tiny" else ()
    return load_recipe(path, [f"model.name_or_path={tiny_model(ARCHITECTURES[folder])}", *data, *overrides])


def prepare_recipe(recipe: Recipe) -> Prepared:
    """Return the prepared data of a recipe, with its own tokenizer and stop tokens."""
    tokenizer = load_tokenizer(recipe)
    return prepare(recipe, tokenizer, stop_token_ids(recipe, tokenizer, load_config(recipe)))
