"""Shapes from config.json against the models that transformers builds from it, on the meta device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.model_configs import CONFIGS, on_meta, read
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig

from qdsft.errors import UserError
from qdsft.planning.memory.shapes import architectures, read_shapes

every_config = pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)


def test_every_architecture_has_a_config() -> None:
    assert CONFIGS
    assert {read(path)["model_type"] for path in CONFIGS} == architectures().keys()


@every_config
def test_every_tensor_is_counted_to_the_byte(path: Path) -> None:
    config = read(path)
    shapes = read_shapes(config, path.name)
    model = on_meta(config)
    assert sorted(shapes.tensors()) == sorted(weight.numel() for weight in model.parameters())
    assert 2 * shapes.parameters == sum(weight.nbytes for weight in model.parameters())


@every_config
def test_every_linear_layer_has_its_name_and_size(path: Path) -> None:
    config = read(path)
    shapes = read_shapes(config, path.name)
    head = (model := on_meta(config)).get_output_embeddings()
    found = {
        name: (module.in_features, module.out_features, module.bias is not None)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    }
    assert found == {
        f"{shapes.prefix}.{number}.{linear.path}": (linear.inputs, linear.outputs, linear.bias)
        for number in range(shapes.layers)
        for linear in shapes.linears
    }


@every_config
@pytest.mark.parametrize(
    "change",
    [
        {"attention_bias": True, "mlp_bias": True},
        {"attention_bias": False},
        {"tie_word_embeddings": True},
        {"tie_word_embeddings": False},
        {"num_key_value_heads": 1},
        {"head_dim": 64},
    ],
    ids=str,
)
def test_fields_that_other_models_of_a_kind_set(path: Path, change: dict[str, Any]) -> None:
    config = read(path) | {"num_hidden_layers": 2, "layer_types": None, "max_window_layers": 2} | change
    if config["model_type"] == "gpt_neox" and {"num_key_value_heads", "head_dim"} & change.keys():
        pytest.skip("this architecture has neither grouped heads nor a separate head size")
    config = {key: value for key, value in config.items() if value is not None}
    model = on_meta(config)
    assert sorted(read_shapes(config, "x").tensors()) == sorted(weight.numel() for weight in model.parameters())


@every_config
def test_windows_are_those_of_the_model(path: Path) -> None:
    config = read(path)
    shapes = read_shapes(config, "x")
    built = AutoConfig.for_model(**{key: value for key, value in config.items() if key != "torch_dtype"})
    kinds = getattr(built, "layer_types", None) or ["full_attention"] * shapes.layers
    assert [window is not None for window in shapes.windows] == [kind == "sliding_attention" for kind in kinds]


@every_config
def test_default_targets_are_those_of_peft(path: Path) -> None:
    config = read(path) | {"num_hidden_layers": 1, "layer_types": None, "max_window_layers": 1}
    config = {key: value for key, value in config.items() if value is not None}
    model = get_peft_model(on_meta(config), LoraConfig(task_type="CAUSAL_LM"))
    found = {name.split(".lora_A")[0].rpartition(".")[2] for name, _ in model.named_parameters() if "lora_A" in name}
    assert found == set(read_shapes(config, "x").default_targets)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "mamba"}, "model_type 'mamba' has no entry in .*architectures.json; add one"),
        ({"model_type": None}, "model_type None has no entry"),
        ({"hidden_size": None}, "x: hidden_size is null, and should be a whole number up to"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"num_hidden_layers": 10**12}, "num_hidden_layers is 1000000000000, and should be"),
        ({"max_position_embeddings": "x"}, "max_position_embeddings is"),
        ({"sliding_window": "x"}, "sliding_window is"),
        ({"vocab_size": "32000"}, "vocab_size is "),
        ({"num_key_value_heads": 5}, "num_attention_heads 32 is no multiple of num_key_value_heads 5"),
    ],
)
def test_the_fault_in_a_config_is_named(change: dict[str, Any], message: str) -> None:
    config = next(read(path) for path in CONFIGS if path.stem == "llama-2-7b") | change
    with pytest.raises(UserError, match=message):
        read_shapes(config, "x")
