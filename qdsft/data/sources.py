"""Read the rows of a recipe from files or from the Hub, and identify their content."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from qdsft.data.readers import stream_records
from qdsft.data.record import Record, RowError, checked
from qdsft.errors import UserError, reason
from qdsft.recipe import Recipe


def read_rows(recipe: Recipe, key: str) -> Iterator[Record]:
    """Yield the rows of data.train or data.eval (`key`), one source after the other.

    Raises UserError as `file_records` does, and if a Hub dataset cannot be loaded.
    """
    for name in _names(recipe, key):
        if is_hub_id(name):
            yield from _with_source(recipe, key, name, _hub_records(recipe, key, name))
        else:
            yield from _file_records(recipe, key, name)


def content_id(recipe: Recipe, key: str) -> str | list[str] | None:
    """Return the SHA-256 of a file or the fingerprint of a Hub dataset, which change with the rows of data.`key`.

    Return a list of them, and of the weights, for several sources.
    """
    found = [_content_id(recipe, key, name) for name in _names(recipe, key)]
    if key == "train" and not isinstance(recipe.data.train, str):
        weighted = zip(recipe.data.train_sources, found, strict=True)
        return [f"{source.weight!r} {Path(source.path).name} {one}" for source, one in weighted]
    return found[0] if found else None


def file_records(recipe: Recipe, key: str) -> Iterator[Record]:
    """Yield the rows of the files in data.`key`. Raises UserError with the recipe's line for one that does not exist.

    Rows of several files that do not say where they come from have the name of their file in the column `source`, by
    which scores are grouped.
    """
    for name in _names(recipe, key):
        yield from _file_records(recipe, key, name)


def data_files(recipe: Recipe, key: str) -> list[Path]:
    """Return the files in data.`key`. Raises UserError with the recipe's line for one that does not exist."""
    return [_data_file(recipe, key, name) for name in _names(recipe, key)]


def is_on_hub(recipe: Recipe) -> bool:
    """Return whether any of the recipe's data must be downloaded."""
    return any(is_hub_id(name) for key in ("train", "eval") for name in _names(recipe, key))


def train_weights(recipe: Recipe) -> dict[str, float]:
    """Return the weight of each source in data.train, under what `Record.source` begins with."""
    split = recipe.data.train_split
    return {
        f"{one.path}[{split}]" if is_hub_id(one.path) else str(Path(one.path)): one.weight
        for one in recipe.data.train_sources
    }


def _names(recipe: Recipe, key: str) -> list[str]:
    if key == "train":
        return recipe.data.train_paths
    return [recipe.data.eval] if recipe.data.eval else []


def _file_records(recipe: Recipe, key: str, name: str) -> Iterator[Record]:
    yield from _with_source(recipe, key, name, stream_records(_data_file(recipe, key, name)))


def _with_source(recipe: Recipe, key: str, name: str, records: Iterable[Record]) -> Iterator[Record]:
    several = key == "train" and not isinstance(recipe.data.train, str)
    for record in records:
        if several and not {"source", "dataset"} & record.row.keys():
            record = record._replace(row={**record.row, "source": Path(name).name.partition(".")[0]})
        yield record


def _hub_records(recipe: Recipe, key: str, name: str) -> Iterator[Record]:
    split = recipe.data.train_split if key == "train" else recipe.data.eval_split
    for number, row in enumerate(_hub_dataset(recipe, key, name), start=1):
        record = checked(dict(row), f"{name}[{split}]:{number}", tabular=True)
        if isinstance(record, RowError):
            raise record
        yield record


def _content_id(recipe: Recipe, key: str, name: str) -> str:
    if is_hub_id(name):
        return str(_hub_dataset(recipe, key, name)._fingerprint)
    if not Path(name).is_file():
        next(_file_records(recipe, key, name))  # raises UserError
    with Path(name).open("rb") as file:
        # The name decides how the bytes are read.
        return f"{''.join(Path(name).suffixes)} {hashlib.file_digest(file, 'sha256').hexdigest()}"


def _hub_dataset(recipe: Recipe, key: str, name: str) -> Any:
    from datasets import load_dataset

    split = recipe.data.train_split if key == "train" else recipe.data.eval_split
    try:
        return load_dataset(name, split=split, revision=recipe.data.revision)
    except (OSError, ValueError, RuntimeError) as error:  # not found, no connection, no such split
        raise UserError(
            f"{recipe.where(f'data.{key}')}: data.{key}: {name} is not a file, and the Hub dataset cannot be "
            f"loaded: {reason(error)}"
        ) from error


def _data_file(recipe: Recipe, key: str, name: str) -> Path:
    if not os.path.exists(name):
        raise UserError(
            f"{recipe.where(f'data.{key}')}: data.{key}: there is no file {name} (looked at {Path(name).absolute()}); "
            f"give another with data.{key}=FILE, or a Hub dataset as user/name"
        )
    return Path(name)


_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_FILE_SUFFIXES = {".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".txt", ".gz", ".zip"}


def is_hub_id(name: str) -> bool:
    """Return whether `data.train` or `data.eval` names a Hub dataset rather than a file."""
    path = Path(name)
    return bool(_HUB_ID.fullmatch(name)) and not os.path.exists(name) and path.suffix.lower() not in _FILE_SUFFIXES
