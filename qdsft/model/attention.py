"""Choose the attention kernel of a run whose recipe leaves it open (auto)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from transformers import PretrainedConfig
from transformers.utils import is_flash_attn_2_available

if TYPE_CHECKING:
    from qdsft.model.device import Machine

LARGEST_HEAD = 256
"""Largest head dimension of FlashAttention-2's kernels."""
OLDEST_GPU = (8, 0)
"""Lowest compute capability that FlashAttention-2 supports: Ampere."""


@dataclass(frozen=True)
class Attention:
    """A kernel, by its name in transformers, and the reason for the choice."""

    name: str
    reason: str


def choose_attention(wanted: str, config: PretrainedConfig, machine: Machine, dtype: torch.dtype) -> Attention:
    """Return `wanted` unless it is "auto"; then FlashAttention-2 if it is installed and supported, else SDPA.

    On packed rows FlashAttention computes only each sample's own block, and SDPA the masked square of the whole row.
    The isolation check tests that no sample attends to another.
    """
    if wanted != "auto":
        return Attention(wanted, "as the recipe says")
    if machine.device != "cuda":
        return Attention("sdpa", "FlashAttention runs on CUDA GPUs only")
    if torch.cuda.get_device_capability() < OLDEST_GPU:
        return Attention("sdpa", "FlashAttention requires a GPU of the Ampere generation or newer")
    if dtype not in {torch.bfloat16, torch.float16}:
        return Attention("sdpa", "FlashAttention computes in 16 bits only")
    if (size := _head_size(config)) > LARGEST_HEAD:
        return Attention("sdpa", f"FlashAttention has no kernel for heads of {size}")
    if not is_flash_attn_2_available():
        return Attention("sdpa", "flash-attn is not installed")
    return Attention("flash_attention_2", "it is installed and computes no pairs of different samples")


def decoding_attention(wanted: str) -> str:
    """Return the kernel to decode with: SDPA unless the recipe names one, since left-padded rows gain nothing else."""
    return "sdpa" if wanted == "auto" else wanted


def _head_size(config: PretrainedConfig) -> int:
    text = config.get_text_config()
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return int(size)
