"""A base model that was saved quantized keeps that quantization, whatever a recipe says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qdsft.errors import UserError
from qdsft.recipe.lora_init_keys import check_lora_init
from qdsft.recipe.recipe import Recipe

KEYS = ("load_in_4bit", "load_in_8bit", "bnb_4bit_quant_type", "bnb_4bit_use_double_quant", "llm_int8_skip_modules")
"""What describes stored weights; the other keys say how to compute with them."""


def is_saved_quantized(config: Mapping[str, Any]) -> bool:
    """Return whether a model with this config.json is saved quantized, by any method."""
    return bool(config.get("quantization_config"))


def saved_quantization(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the quantization section of weights that bitsandbytes saved; None for other weights."""
    saved = config.get("quantization_config")
    if not saved or not (saved.get("load_in_4bit") or saved.get("load_in_8bit")):
        return None
    other = "load_in_8bit" if saved.get("load_in_4bit") else "bnb_4bit"
    return {key: saved[key] for key in KEYS if saved.get(key) and not key.startswith(other)}


def with_saved_quantization(recipe: Recipe, config: Mapping[str, Any]) -> Recipe:
    """Return the recipe with the quantization in which its base model is saved.

    Raises UserError for a quantization section that asks for another one, and for full fine-tuning.
    """
    if not is_saved_quantized(config):
        return recipe
    name = recipe.model.name_or_path
    if recipe.lora is None:
        raise UserError(
            f"{recipe.where('model.name_or_path')}: {name} is saved quantized, and quantized weights cannot be trained "
            "themselves; add a lora section, or choose the model that it was made from"
        )
    saved = saved_quantization(config)
    if saved is None:  # another method, which transformers loads by itself
        return recipe
    for key in KEYS:
        given = (recipe.quantization or {}).get(key)
        if given is not None and given != saved.get(key, False) and (given or saved.get(key)):
            key = f"quantization.{key}"
            bits = 4 if saved.get("load_in_4bit") else 8
            raise UserError(
                f"{recipe.where(key)}: {key}: {name} is saved in {bits} bits, with another value; remove {key}, or "
                "choose the model that it was made from"
            )
    found = recipe.model_copy(update={"quantization": {**(recipe.quantization or {}), **saved}})
    check_lora_init(found)
    return found
