"""Quantized weights stay as they are, and are read back as the model computes with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from bitsandbytes.nn.modules import Linear4bit
from helpers.paths import RECIPES
from peft import get_peft_model

from qdsft.model.device import Machine
from qdsft.model.loading import load_model, lora_config
from qdsft.model.quantization import REPACKS, dequantized_weights, quantization_config
from qdsft.recipe import Recipe, load_recipe

CPU = Machine("cpu", "CPU", torch.float32)


@pytest.fixture
def recipe(tiny_model: Callable[[str], Path]) -> Recipe:
    overrides = [f"model.name_or_path={tiny_model('llama')}", "quantization={load_in_4bit: true}", "lora={r: 2}"]
    return load_recipe(RECIPES / "tiny/full.yaml", overrides)


def test_evaluating_leaves_quantized_weights_and_their_gradients_alone(recipe: Recipe) -> None:
    """On a CPU with bfloat16 instructions bitsandbytes packs 4-bit weights in its first evaluation, unless stopped."""
    model = get_peft_model(load_model(recipe, CPU, trainable=True), lora_config(recipe))
    layers = [module for module in model.modules() if isinstance(module, Linear4bit)]
    assert layers and not any(getattr(layer, REPACKS) for layer in layers)
    before = [layer.weight.detach().clone() for layer in layers]
    ids = torch.arange(8)[None]
    with torch.no_grad():
        model.eval()(input_ids=ids)
    assert all(torch.equal(old, layer.weight) for old, layer in zip(before, layers, strict=True))
    model.train()(input_ids=ids, labels=ids).loss.backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters() if "lora_B" in name}
    assert gradients and all(grad is not None and grad.any() for grad in gradients.values())


def test_the_compute_format_is_one_that_the_machine_has(recipe: Recipe) -> None:
    assert quantization_config(recipe, CPU).bnb_4bit_compute_dtype == torch.float32
    older = Machine("cuda", "a GPU without bfloat16", torch.float16)
    assert quantization_config(recipe, older).bnb_4bit_compute_dtype == torch.float16


def test_dequantized_weights_are_near_the_base_weights_and_carry_their_names(
    recipe: Recipe, tiny_model: Callable[[str], Path]
) -> None:
    plain = load_recipe(RECIPES / "tiny/full.yaml", [f"model.name_or_path={tiny_model('llama')}"])
    base = load_model(plain, CPU, trainable=False).state_dict()
    model = get_peft_model(load_model(recipe, CPU, trainable=True), lora_config(recipe))
    found = dequantized_weights(model)
    assert found.keys() == {name for name in base if "_proj" in name}
    for name, read in found.items():
        error = (read().float() - base[name]).norm() / base[name].norm()
        assert 0 < error < 0.2, name
    assert dequantized_weights(load_model(plain, CPU, trainable=False)) == {}
