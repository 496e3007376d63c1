"""Check the files of a model or adapter that another program will load, as `checked_weights` checks loaded weights."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, get_peft_model, get_peft_model_state_dict
from safetensors import safe_open
from transformers import AutoModelForCausalLM, PretrainedConfig

from qdsft.errors import UserError
from qdsft.model.checked_weights import (
    ADAPTER_REMEDY,
    BASE_REMEDY,
    check_adapter_tensors,
    check_tensor_names,
    check_weight,
    of_other_modules,
)
from qdsft.model.foreign_files import foreign_errors
from qdsft.model.weight_files import BaseWeights, missing_weights, module_names

ADAPTER_WEIGHTS = "adapter_model.safetensors"


def check_model_files(folder: Path, config: PretrainedConfig, *, trust_remote_code: bool) -> None:
    """Raise UserError unless the files in `folder` hold every weight of a model with this config, and nothing else.

    Reads one tensor at a time.
    """
    model = _empty_model(config, trust_remote_code)
    state, tied = model.state_dict(), dict(getattr(model, "_tied_weights_keys", None) or {})
    with BaseWeights(str(folder)) as weights:
        shapes = weights.shapes()
        names = module_names(model, list(shapes))
        found = {module for module, _ in names.values()}
        missing, unexpected = missing_weights(state, found, tied), found - state.keys()
        check_tensor_names(str(folder), missing, unexpected - of_other_modules(model, unexpected), BASE_REMEDY)
        for name, (module, is_converted) in names.items():
            if module in state and not is_converted and shapes[name] != tuple(state[module].shape):
                raise UserError(
                    f"{folder}: {name} has the shape {shapes[name]}, not {tuple(state[module].shape)}; {BASE_REMEDY}"
                )
            check_weight(str(folder), name, weights.read(name))


def check_adapter_files(folder: Path, config: PretrainedConfig, *, trust_remote_code: bool) -> None:
    """Raise UserError unless `folder` holds an adapter that fits a model with this config."""
    model = _empty_model(config, trust_remote_code)
    with foreign_errors("adapter", folder, remedy=lambda _: ADAPTER_REMEDY):
        with warnings.catch_warnings(), torch.device("meta"):
            warnings.simplefilter("ignore")  # about tied weights
            wrapped = get_peft_model(model, PeftConfig.from_pretrained(str(folder)))
        expected = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    shapes = adapter_shapes(folder)
    # PEFT saves a copy of the base embedding beside an adapter on it.
    unexpected = {name for name in shapes if name not in expected and ".base_layer." not in name}
    check_tensor_names(str(folder), expected.keys() - shapes.keys(), unexpected, ADAPTER_REMEDY)
    for name, tensor in expected.items():
        if tuple(tensor.shape) != shapes[name]:
            raise UserError(
                f"{folder}: {name} has the shape {shapes[name]}, not {tuple(tensor.shape)}; {ADAPTER_REMEDY}"
            )


def adapter_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of an adapter's tensors, which are all read and checked once.

    Raises UserError as `check_adapter_tensors` does, and for a file that cannot be read.
    """
    with (
        foreign_errors("adapter", folder, remedy=lambda _: ADAPTER_REMEDY),
        safe_open(folder / ADAPTER_WEIGHTS, framework="pt") as reader,
    ):
        names = list(reader.keys())
        check_adapter_tensors(folder, ((name, reader.get_tensor(name)) for name in names))
        return {name: tuple(reader.get_slice(name).get_shape()) for name in names}


def _empty_model(config: PretrainedConfig, trust_remote_code: bool) -> Any:
    with foreign_errors("config.json", config.name_or_path), torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
