"""Tiny models of architectures that have no recipe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "dtype": "float32",
}
NO_SYSTEM = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'system' -%}{{- raise_exception('System role not supported') -}}{%- endif -%}"
    "{{- message['content'] + eos_token -}}{%- endfor -%}"
)
UNTRIED: dict[str, tuple[str, str | None, dict[str, Any]]] = {
    "phi3": ("qwen3", None, SIZES | {"num_key_value_heads": 4}),
    "olmo2": ("llama3", None, SIZES),
    "granite": ("gpt_neox", NO_SYSTEM, SIZES),
    "starcoder2": ("qwen3_thinking", None, SIZES),
    "gpt2": ("gpt_neox", None, {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512, "dtype": "float32"}),
}
"""Architecture -> the tiny model that gives its tokenizer, a chat template that replaces the tokenizer's, and sizes."""


def make_untried(architecture: str, folder: Path, tiny_model: Callable[[str], Path]) -> Path:
    """Write a tiny model with random weights to folder/tiny-<architecture> and return its path."""
    source, template, sizes = UNTRIED[architecture]
    tokenizer = AutoTokenizer.from_pretrained(tiny_model(source))
    if template is not None:
        tokenizer.chat_template = template
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    values = sizes | ends | {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    path = folder / f"tiny-{architecture}"
    config = transformers.AutoConfig.for_model(architecture, **values)
    AutoModelForCausalLM.from_config(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path
