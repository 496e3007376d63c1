"""Choose the attention kernel of a run whose recipe leaves it open (auto)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, PretrainedConfig
from transformers.utils import is_flash_attn_2_available

from qdsft.errors import UserError

if TYPE_CHECKING:
    from qdsft.model.device import Machine
from qdsft.optional_packages import import_problem

FLASH = "flash_attention_2"
LARGEST_HEAD = 256
"""Largest head dimension of FlashAttention-2's kernels."""
OLDEST_GPU = (8, 0)
"""Lowest compute capability that FlashAttention-2 supports: Ampere."""


@dataclass(frozen=True)
class Attention:
    """A kernel and the reason for the choice."""

    name: str | None
    """The kernel's name in transformers; None leaves the choice to transformers: SDPA where the model supports it."""
    reason: str


def choose_attention(wanted: str, config: PretrainedConfig, machine: Machine, dtype: torch.dtype) -> Attention:
    """Return `wanted` unless it is "auto"; then FlashAttention-2 if it runs and the model supports it.

    On packed rows FlashAttention computes only each sample's own block, and SDPA the masked square of the whole row.
    The isolation check tests that no sample attends to another. Raises UserError as `check_flash` does.
    """
    if wanted != "auto":
        check_flash(wanted)
        return Attention(wanted, "as the recipe says")
    if machine.device_type != "cuda":
        return Attention(None, "FlashAttention runs on CUDA GPUs only")
    if not _supports_flash(config):
        return Attention(None, "this model does not support FlashAttention")
    if torch.cuda.get_device_capability() < OLDEST_GPU:
        return Attention(None, "FlashAttention requires a GPU of the Ampere generation or newer")
    if dtype not in {torch.bfloat16, torch.float16}:
        return Attention(None, "FlashAttention computes in 16 bits only")
    if (size := _head_size(config)) > LARGEST_HEAD:
        return Attention(None, f"FlashAttention has no kernel for heads of {size}")
    if not is_flash_attn_2_available():
        return Attention(None, "flash-attn is not installed")
    if problem := import_problem("flash_attn"):
        return Attention(None, f"flash-attn is installed but cannot be imported: {problem}")
    return Attention(FLASH, "it is installed and computes no pairs of different samples")


def decoding_attention(wanted: str) -> str | None:
    """Return the kernel to decode with: transformers' choice unless the recipe names one.

    Left-padded rows gain nothing from FlashAttention. Raises UserError as `check_flash` does.
    """
    check_flash(wanted)
    return None if wanted == "auto" else wanted


def check_flash(wanted: str) -> None:
    """Raise UserError if the recipe asks for a FlashAttention that is installed but cannot be imported.

    transformers reads only the metadata of the package, and so takes a build for another release of torch for usable.
    """
    if wanted == FLASH and is_flash_attn_2_available() and (problem := import_problem("flash_attn")):
        raise UserError(
            f"model.attn_implementation {FLASH}: flash-attn is installed but cannot be imported ({problem}); install a "
            f"build for torch {torch.__version__}, or set model.attn_implementation=auto"
        )


def _supports_flash(config: PretrainedConfig) -> bool:
    """Return whether the class that AutoModelForCausalLM picks supports FlashAttention; False for Hub code."""
    if getattr(config, "auto_map", None):
        return False
    model: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    return bool(getattr(model, "_supports_flash_attn", False))


def _head_size(config: PretrainedConfig) -> int:
    text = config.get_text_config()
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return int(size)
