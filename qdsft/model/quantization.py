"""Quantize with bitsandbytes: the config of a recipe, and the values of quantized weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from transformers import BitsAndBytesConfig

from qdsft.model.device import Machine
from qdsft.recipe import Recipe

REPACKS = "support_avx512bf16_for_cpu"
"""The attribute of bitsandbytes' Linear4bit that tells whether it repacks its weights."""


def quantization_config(recipe: Recipe, machine: Machine) -> BitsAndBytesConfig:
    """Return the recipe's BitsAndBytesConfig with a compute format that the machine supports."""
    values = dict(recipe.quantization or {})
    if values.get("load_in_4bit"):
        wanted = values.get("bnb_4bit_compute_dtype", "auto")
        values["bnb_4bit_compute_dtype"] = machine.choose_dtype(wanted)
    return BitsAndBytesConfig(**values)


def dequantized_weights(model: Any) -> dict[str, Callable[[], torch.Tensor]]:
    """Return, for each quantized weight, its name in the base model and a function that dequantizes it.

    `model` may be a PeftModel. Empty for a model that is not quantized.
    """
    from bitsandbytes.nn import modules
    from transformers.integrations.bitsandbytes import dequantize_bnb_weight

    kinds = (modules.Linear4bit, modules.Linear8bitLt)
    found: dict[str, Callable[[], torch.Tensor]] = {}
    for name, module in model.named_modules():
        if isinstance(module, kinds):
            own = name.removeprefix("base_model.model.").removesuffix(".base_layer")
            found[f"{own}.weight"] = partial(dequantize_bnb_weight, module.weight, getattr(module, "state", None))
    return found


def keep_quantized_weights(model: torch.nn.Module) -> None:
    """Stop bitsandbytes from repacking 4-bit weights for evaluation, which it does on CPUs with bfloat16 instructions.

    Repacking rounds the scales in place, and no gradient flows through repacked weights: after the first evaluation the
    training would continue with another model, and train only its last layers.
    """
    for module in model.modules():
        if getattr(module, REPACKS, False):
            setattr(module, REPACKS, False)
