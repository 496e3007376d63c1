"""A trainer over rows of chosen token ids, without a data file."""

from __future__ import annotations

from collections.abc import Sequence

from qdsft.model.device import find_machine
from qdsft.model.loading import load_model, load_tokenizer
from qdsft.recipe import Recipe
from qdsft.tokenization.row_files import of_rows
from qdsft.tokenization.rows import Row
from qdsft.training.build import build_arguments, build_trainer
from qdsft.training.trainer import RecipeTrainer

ROWS = [Row([1, *range(start, start + 30)], 0) for start in (100, 200, 300)]


def make_trainer(recipe: Recipe, rows: Sequence[Row] = ROWS) -> RecipeTrainer:
    """Return the trainer of a recipe over these rows."""
    machine = find_machine()
    model, tokenizer = load_model(recipe, machine, trainable=True), load_tokenizer(recipe)
    return build_trainer(recipe, build_arguments(recipe, machine), model, tokenizer, of_rows(rows), None)
