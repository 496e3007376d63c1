"""Tiny configs of several architectures, and the modules that get adapters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import transformers
from transformers import PretrainedConfig

from qdsft.errors import UserError
from qdsft.model.adapters import Coverage, check_adapters
from qdsft.recipe import load_recipe

TEXT: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "vocab_size": 300,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
CONFIGS: dict[str, PretrainedConfig] = {
    "llama": transformers.LlamaConfig(**TEXT),
    "gemma3 with vision": transformers.Gemma3Config(text_config=TEXT, vision_config=VISION),
    "qwen3.5": transformers.Qwen3_5TextConfig(
        **TEXT,
        linear_num_key_heads=2,
        linear_num_value_heads=2,
        linear_key_head_dim=16,
        linear_value_head_dim=16,
    ),
    "gpt2": transformers.GPT2Config(n_embd=64, n_layer=4, n_head=2, vocab_size=300),
    "gpt-oss": transformers.GptOssConfig(**TEXT, num_local_experts=2),
    "mamba2": transformers.Mamba2Config(
        hidden_size=64, num_hidden_layers=2, num_heads=4, head_dim=32, vocab_size=300, state_size=16, n_groups=1
    ),
}


def coverage(tmp_path: Path, model: str, **lora: Any) -> Coverage:
    path = tmp_path / "r.yaml"
    path.write_text(f"model: {{name_or_path: m}}\ndata: {{train: t}}\nlora: {json.dumps(lora)}\n", encoding="utf-8")
    found = check_adapters(load_recipe(path), CONFIGS[model])
    assert found is not None
    return found


def refusal(tmp_path: Path, model: str, **lora: Any) -> str:
    with pytest.raises(UserError) as caught:
        coverage(tmp_path, model, **lora)
    assert "\n" not in str(caught.value) and "r.yaml" in str(caught.value)
    return str(caught.value)
