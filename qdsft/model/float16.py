"""Refuse float16 for models whose activations exceed its range."""

from __future__ import annotations

import torch
from transformers import PretrainedConfig

from qdsft.errors import UserError
from qdsft.model.device import Machine
from qdsft.recipe import Recipe

LARGE_ACTIVATIONS = ("query_pre_attn_scalar", "final_logit_softcapping")
"""Config keys that, together, only models with large activations have: they scale the embeddings by the root of the
hidden size and normalize the output of each block before they add it to the residual stream, which grows from layer to
layer. In float16 such models give inf and NaN (transformers#39972); vLLM refuses float16 for them, too."""


def check_range(recipe: Recipe, config: PretrainedConfig, machine: Machine) -> None:
    """Raise UserError if this run would compute in float16 and the config says that the activations overflow it."""
    text = config.get_text_config()
    if not all(hasattr(text, key) for key in LARGE_ACTIVATIONS):
        return
    keys = {"model.dtype": recipe.model.dtype}
    quantization = recipe.quantization or {}
    if quantization.get("load_in_4bit"):
        keys["quantization.bnb_4bit_compute_dtype"] = quantization.get("bnb_4bit_compute_dtype", "auto")
    halves = [key for key, wanted in keys.items() if machine.choose_dtype(wanted) == torch.float16]
    if halves:
        own = machine.dtype == torch.bfloat16
        format_name, other = ("bfloat16", "") if own else ("float32", "use a GPU with bfloat16 (Ampere or newer), or ")
        changes = " and ".join(f"{key}={format_name}" for key in halves)
        raise UserError(
            f"{recipe.where('model.dtype')}: {recipe.model.name_or_path} overflows in float16, in which this run would "
            f"compute on {machine.name}; {other}set {changes}"
        )
