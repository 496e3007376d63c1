"""Read the rows of a recipe from files or from the Hub, and identify their content."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qdsft.data.readers import stream_records
from qdsft.data.record import Record, RowError, checked
from qdsft.errors import UserError, reason
from qdsft.recipe import Recipe


def read_rows(recipe: Recipe, key: str) -> Iterator[Record]:
    """Yield the rows of data.train or data.eval (`key`).

    Raises UserError as `file_records` does, and if a Hub dataset cannot be loaded.
    """
    name: str = getattr(recipe.data, key)
    if not is_hub_id(name):
        yield from file_records(recipe, key)
        return
    split = recipe.data.train_split if key == "train" else recipe.data.eval_split
    for number, row in enumerate(_hub_dataset(recipe, key), start=1):
        record = checked(dict(row), f"{name}[{split}]:{number}", tabular=True)
        if isinstance(record, RowError):
            raise record
        yield record


def content_id(recipe: Recipe, key: str) -> str | None:
    """Return the SHA-256 of a file or the fingerprint of a Hub dataset, which change with the rows of data.`key`."""
    name: str | None = getattr(recipe.data, key)
    if name is None:
        return None
    if is_hub_id(name):
        return str(_hub_dataset(recipe, key)._fingerprint)
    if not Path(name).is_file():
        next(file_records(recipe, key))  # raises UserError
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
        raise UserError(
            f"{recipe.where(f'data.{key}')}: data.{key}: {name} is not a file, and the Hub dataset cannot be "
            f"loaded: {reason(error)}"
        ) from error


def file_records(recipe: Recipe, key: str) -> Iterator[Record]:
    """Yield the rows of the file in data.`key`. Raises UserError with the recipe's line if the file does not exist."""
    yield from stream_records(data_file(recipe, key))


def data_file(recipe: Recipe, key: str) -> Path:
    """Return the file in data.`key`. Raises UserError with the recipe's line if the file does not exist."""
    name: str = getattr(recipe.data, key)
    if not os.path.exists(name):
        raise UserError(
            f"{recipe.where(f'data.{key}')}: data.{key}: there is no file {name} (looked at {Path(name).absolute()}); "
            f"give another with data.{key}=FILE, or a Hub dataset as user/name"
        )
    return Path(name)


def is_on_hub(recipe: Recipe) -> bool:
    """Return whether any of the recipe's data must be downloaded."""
    return any(is_hub_id(name) for name in (recipe.data.train, recipe.data.eval) if name)


_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_FILE_SUFFIXES = {".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".txt", ".gz", ".zip"}


def is_hub_id(name: str) -> bool:
    """Return whether `data.train` or `data.eval` names a Hub dataset rather than a file."""
    path = Path(name)
    return bool(_HUB_ID.fullmatch(name)) and not os.path.exists(name) and path.suffix.lower() not in _FILE_SUFFIXES
