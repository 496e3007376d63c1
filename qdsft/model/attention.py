"""Which attention kernel a run takes where its recipe leaves the choice, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from transformers import PretrainedConfig
from transformers.utils import is_flash_attn_2_available

if TYPE_CHECKING:
    from qdsft.model.device import Machine

LARGEST_HEAD = 256
"""Numbers of a head that FlashAttention-2's kernels are built for, at most."""
OLDEST_CARD = (8, 0)
"""Compute capability from which FlashAttention-2 runs: Ampere."""


@dataclass(frozen=True)
class Attention:
    """A kernel by transformers' name, and the reason for it in words."""

    name: str
    reason: str


def choose_attention(wanted: str, config: PretrainedConfig, machine: Machine, dtype: torch.dtype) -> Attention:
    """`wanted` itself unless it is "auto"; then FlashAttention-2 where it is installed and runs, else SDPA.

    Packed rows are what it is taken for: its kernels compute no more than each sample's own block, where SDPA masks the
    square of the whole row. That they do see no other sample is for the isolation check to show.
    """
    if wanted != "auto":
        return Attention(wanted, "as the recipe says")
    if machine.device != "cuda":
        return Attention("sdpa", "FlashAttention runs on CUDA cards only")
    if torch.cuda.get_device_capability() < OLDEST_CARD:
        return Attention("sdpa", "FlashAttention needs a card of the Ampere generation or newer")
    if dtype not in {torch.bfloat16, torch.float16}:
        return Attention("sdpa", "FlashAttention computes in 16 bits only")
    if (size := _head_size(config)) > LARGEST_HEAD:
        return Attention("sdpa", f"FlashAttention has no kernel for heads of {size}")
    if not is_flash_attn_2_available():
        return Attention("sdpa", "flash-attn is not installed")
    return Attention("flash_attention_2", "it is installed and computes no pairs of different samples")


def decoding_attention(wanted: str) -> str:
    """What to decode with: SDPA unless the recipe names a kernel; rows padded on the left gain nothing from others."""
    return "sdpa" if wanted == "auto" else wanted


def _head_size(config: PretrainedConfig) -> int:
    text = config.get_text_config()
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return int(size)
