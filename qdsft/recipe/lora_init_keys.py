"""Which initial values of LoRA fit the rest of a recipe and of a launch."""

from __future__ import annotations

from qdsft.errors import UserError
from qdsft.launch import uses_fsdp, zero_stage
from qdsft.recipe.recipe import Recipe

KEY = "lora.init_lora_weights"
READS_WEIGHTS = ("pissa", "olora", "eva", "mica")
"""How the values begin that need the base model's weights or activations."""


def changes_base(recipe: Recipe) -> bool:
    """Return whether training starts from a part of the base model, which is taken out of it."""
    return str((recipe.lora or {}).get("init_lora_weights")).startswith(("pissa", "olora"))


def check_lora_init(recipe: Recipe) -> None:
    """Raise UserError for initial values that PEFT cannot compute, or cannot turn into an adapter for any base."""
    lora = recipe.lora or {}
    init = str(lora.get("init_lora_weights"))
    where = f"{recipe.where(KEY)}: {KEY}: {init}"
    if init.startswith(("pissa", "olora", "mica")) and recipe.quantization:
        raise UserError(
            f"{where} needs the base model's own weights, not quantized ones; remove quantization, or set eva"
        )
    if init == "orthogonal" and lora.get("r", 8) % 2:
        raise UserError(f"{where} needs an even rank; change lora.r")
    if changes_base(recipe):
        if lora.get("use_rslora") and (lora.get("rank_pattern") or lora.get("alpha_pattern")):
            patterns = "lora.use_rslora and a rank_pattern or alpha_pattern"
            raise UserError(f"{where} cannot be saved as plain LoRA with {patterns}; remove one of them")
        for key in ("use_bdlora", "velora_config", "target_parameters"):
            if lora.get(key):
                raise UserError(f"{where} cannot be saved as plain LoRA with lora.{key}; remove one of them")


def check_sharded_init(recipe: Recipe) -> None:
    """Raise UserError if initial values need whole weights and the launch shards them."""
    init = str((recipe.lora or {}).get("init_lora_weights"))
    if init.startswith(READS_WEIGHTS) and (zero_stage() == 3 or uses_fsdp()):
        raise UserError(
            f"{recipe.where(KEY)}: {KEY}: {init} needs whole weights, and this launch shards them; launch with "
            "accelerate_configs/ddp.yaml or zero2.yaml, or set another value"
        )
