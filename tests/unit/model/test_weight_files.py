"""The weights of a base model are read from its files, whatever their layout, and a damaged file is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from qdsft.errors import UserError
from qdsft.model.weight_files import BaseWeights, module_names


@pytest.fixture
def tensors(tiny_model: Callable[[str], Path]) -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = load_file(tiny_model("llama") / "model.safetensors")
    return loaded


def shards(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    names = sorted(tensors)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in parts.items():
        save_file({name: tensors[name] for name in part}, folder / file)
    index = {"weight_map": {name: file for file, part in parts.items() for name in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


@pytest.mark.parametrize("layout", ["one file", "shards", "pickle"])
def test_every_layout_gives_the_same_names_shapes_and_values(
    layout: str, tensors: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    if layout == "one file":
        save_file(tensors, tmp_path / "model.safetensors")
    elif layout == "shards":
        shards(tmp_path, tensors)
    else:
        torch.save(tensors, tmp_path / "pytorch_model.bin")
    with BaseWeights(str(tmp_path)) as base:
        assert base.shapes() == {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        assert all(torch.equal(base.read(name), tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("no weights", r"no weights to merge into \(model\.safetensors or its shards\)"),
        ("no shard", r"b\.safetensors is missing; download the base model again"),
        ("cut", r"the weights cannot be loaded: model\.safetensors is cut"),
    ],
)
def test_missing_and_damaged_files_are_named(
    damage: str, message: str, tensors: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    if damage == "no shard":
        shards(tmp_path, tensors)
        (tmp_path / "b.safetensors").unlink()
    elif damage == "cut":
        save_file(tensors, tmp_path / "model.safetensors")
        (tmp_path / "model.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes()[:200])
    with pytest.raises(UserError, match=message), BaseWeights(str(tmp_path)):
        pass


def test_names_in_the_files_are_those_of_the_model_or_renamed(
    tensors: dict[str, torch.Tensor], tiny_model: Callable[[str], Path]
) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model("llama"))
    found = module_names(model, sorted(tensors))
    assert found == {name: (name, False) for name in tensors}
