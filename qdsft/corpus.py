"""The rows of a recipe, from files or from the Hub, and what tells whether they are the same as before."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qdsft.data import is_hub_id
from qdsft.errors import UserError
from qdsft.examples import file_records
from qdsft.recipe import Recipe
from qdsft.record import Record


def read_rows(recipe: Recipe, key: str) -> Iterator[Record]:
    """Rows of data.train or data.eval (`key`), one by one.

    Raises UserError as `examples.file_records` does, and if a Hub dataset cannot be loaded.
    """
    name: str = getattr(recipe.data, key)
    if not is_hub_id(name):
        yield from file_records(recipe, key)
        return
    split = recipe.data.train_split if key == "train" else recipe.data.eval_split
    for number, row in enumerate(_hub_dataset(recipe, key), start=1):
        yield Record(dict(row), f"{name}[{split}]:{number}")


def content_id(recipe: Recipe, key: str) -> str | None:
    """What changes whenever the rows of data.`key` do: SHA-256 of a file, the fingerprint of a Hub dataset."""
    name: str | None = getattr(recipe.data, key)
    if name is None:
        return None
    if is_hub_id(name):
        return str(_hub_dataset(recipe, key)._fingerprint)
    if not Path(name).is_file():
        next(file_records(recipe, key))  # says what is wrong
    with Path(name).open("rb") as file:
        # The name decides how the bytes are read.
        return f"{''.join(Path(name).suffixes)} {hashlib.file_digest(file, 'sha256').hexdigest()}"


def _hub_dataset(recipe: Recipe, key: str) -> Any:
    from datasets import load_dataset

    name: str = getattr(recipe.data, key)
    split = recipe.data.train_split if key == "train" else recipe.data.eval_split
    try:
        return load_dataset(name, split=split, revision=recipe.data.revision)
    except (OSError, ValueError, RuntimeError) as error:  # not found, no connection, no such split
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{recipe.where(f'data.{key}')}: data.{key}: {name} is no file here, and the Hub dataset cannot be "
            f"loaded: {first[:200]}"
        ) from error
