"""The examples of a recipe, from files or from the Hub."""

from __future__ import annotations

from qdsft.console import say
from qdsft.data import is_hub_id
from qdsft.errors import UserError
from qdsft.examples import Split, make_split, read_file_records
from qdsft.recipe import Recipe
from qdsft.record import Record


def load_examples(recipe: Recipe) -> Split:
    """Read, render, validate and split the recipe's data; says the counts.

    Raises UserError as `qdsft.examples` does, and if a Hub dataset cannot be loaded.
    """
    split = make_split(recipe, _records)
    note = f", {split.left_out} left out because they stand in data.eval" if split.left_out else ""
    say(f"data: {len(split.train)} rows to train on, {len(split.eval)} held out{note}")
    return split


def _records(recipe: Recipe, key: str) -> list[Record]:
    name: str = getattr(recipe.data, key)
    if not is_hub_id(name):
        return read_file_records(recipe, key)
    from datasets import load_dataset

    split = recipe.data.train_split if key == "train" else recipe.data.eval_split
    try:
        dataset = load_dataset(name, split=split, revision=recipe.data.revision)
    except (OSError, ValueError, RuntimeError) as error:  # not found, no connection, no such split
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{recipe.where(f'data.{key}')}: data.{key}: {name} is no file here, and the Hub dataset cannot be "
            f"loaded: {first[:200]}"
        ) from error
    return [Record(dict(row), f"{name}[{split}]:{number}") for number, row in enumerate(dataset, start=1)]
