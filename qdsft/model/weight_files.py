"""Read the weights of a base model from its files one by one, without loading the model."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key
from transformers.utils import cached_file

from qdsft.errors import UserError, reason
from qdsft.model.checked_weights import BASE_REMEDY, check_finite
from qdsft.model.foreign_files import foreign_errors
from qdsft.recipe import Recipe
from qdsft.strict_json import read_object

INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
SINGLE = ("model.safetensors", "pytorch_model.bin")
"""The files that transformers looks for, safetensors first. Other weight files of a repository are ignored."""


class BaseWeights:
    """Give names, shapes and tensors of a model's files, and read a tensor only when it is requested.

    Use it in a `with` statement. Raises UserError if there are no weights or a file cannot be read.
    """

    def __init__(self, name: str, revision: str | None = None) -> None:
        self._files = _find_files(name, revision)
        self._readers: dict[str, Any] = {}
        self._places: dict[str, Any] = {}
        self._stack = ExitStack()

    def __enter__(self) -> BaseWeights:
        for path in self._files:
            with foreign_errors("weights", path.parent):
                if path.suffix == ".safetensors":
                    reader = self._stack.enter_context(safe_open(path, framework="pt"))
                    self._places |= {name: (path, reader) for name in reader.keys()}  # noqa: SIM118
                else:  # memory-mapped
                    content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
                    self._places |= {
                        name: (path, content) for name, tensor in content.items() if isinstance(tensor, torch.Tensor)
                    }
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self._places.clear()

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return name -> shape of every tensor, in the order of the files, without reading the tensors."""
        shapes = {}
        for name, (path, source) in self._places.items():
            stored = source.get_slice(name) if path.suffix == ".safetensors" else source[name]
            shapes[name] = tuple(stored.get_shape() if path.suffix == ".safetensors" else stored.shape)
        return shapes

    def read(self, name: str) -> torch.Tensor:
        """Return one tensor, in the format of its file. Raises UserError if the file is damaged or holds NaN."""
        path, source = self._places[name]
        try:
            tensor: torch.Tensor = source.get_tensor(name) if path.suffix == ".safetensors" else source[name]
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path}: {name} cannot be read: {error}; put the base model's file back") from error
        check_finite(str(path), name, tensor, BASE_REMEDY)
        return tensor


def open_base(recipe: Recipe, commit: str | None) -> BaseWeights:
    """Return the base model's files; `commit` is the Hub commit that was trained on, if the model is from the Hub."""
    return BaseWeights(recipe.model.name_or_path, commit or recipe.model.revision)


def check_readable(recipe: Recipe) -> None:
    """Raise UserError unless the base model's weight files are there and as long as their headers say."""
    with open_base(recipe, None) as weights:
        weights.shapes()


def module_names(model: PreTrainedModel, names: list[str]) -> dict[str, tuple[str, bool]]:
    """Return, by the name in the files, the name in the model and whether transformers converts the weight on loading.

    Some architectures have renamed their weights. `model` may be on the meta device.
    """
    transforms = get_model_conversion_mapping(model)
    renamings = [entry for entry in transforms if isinstance(entry, WeightRenaming)]
    converters = [entry for entry in transforms if isinstance(entry, WeightConverter)]
    state = dict(model.state_dict())
    found = {}
    for name in names:
        renamed, pattern = rename_source_key(name, renamings, converters, model.base_model_prefix, state)
        found[name] = (renamed, pattern is not None)
    return found


def missing_weights(names: Collection[str], found: Collection[str], tied: Mapping[str, str]) -> set[str]:
    """Return the names that no file has. A weight that is tied to another is there under one of the two names."""
    other = {one: two for pair in tied.items() for one, two in (pair, pair[::-1])}
    return {name for name in names if name not in found and other.get(name) not in found}


def _find_files(name: str, revision: str | None) -> list[Path]:
    for index in INDEXES:
        if path := _find(name, index, revision):
            places = read_object(path, BASE_REMEDY).get("weight_map")
            if not isinstance(places, dict) or not all(isinstance(part, str) for part in places.values()):
                raise UserError(f"{path}: weight_map does not name a file for each weight; {BASE_REMEDY}")
            parts = sorted(set(places.values()))
            found = [_find(name, part, revision) for part in parts]
            if None in found:
                raise UserError(f"{name}: {parts[found.index(None)]} is missing; download the base model again")
            return [part for part in found if part]
    for single in SINGLE:
        if path := _find(name, single, revision):
            return [path]
    raise UserError(f"{name}: no weights to merge into ({SINGLE[0]} or its shards); save the model with them")


def _find(name: str, file: str, revision: str | None) -> Path | None:
    try:
        found = cached_file(
            name,
            file,
            revision=None if Path(name).is_dir() else revision,
            _raise_exceptions_for_missing_entries=False,
        )
    except (OSError, ValueError) as error:
        raise UserError(f"{name}: {file} cannot be downloaded: {reason(error)}") from error
    return Path(found) if found else None
