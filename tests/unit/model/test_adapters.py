"""Adapters sit on the text decoder of a model alone, and on every layer of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.adapted_models import coverage, refusal


@pytest.mark.parametrize(
    ("model", "lora", "line"),
    [
        ("llama", {"target_modules": "all-linear"}, "LoRA: 28 modules in 4 of 4 layers"),
        ("llama", {}, "LoRA: 8 modules in 4 of 4 layers; none in mlp"),
        ("llama", {"target_modules": ["mlp.up_proj"]}, "LoRA: 4 modules in 4 of 4 layers; none in self_attn"),
        (
            "llama",
            {"target_modules": ["q_proj"], "layers_to_transform": [1, 2]},
            "LoRA: 2 modules in 2 of 4 layers; none in mlp",
        ),
        ("llama", {"target_modules": r".*layers\.3.*_proj"}, "LoRA: 7 modules in 1 of 4 layers"),
        ("gemma3 with vision", {"target_modules": "all-linear"}, "LoRA: 28 modules in 4 of 4 layers"),
        ("gemma3 with vision", {"target_modules": ["q_proj"]}, "LoRA: 4 modules in 4 of 4 layers; none in mlp"),
        ("gemma3 with vision", {"target_modules": ".*q_proj"}, "LoRA: 4 modules in 4 of 4 layers; none in mlp"),
        (
            "gemma3 with vision",
            {"target_modules": ["q_proj", "up_proj"], "exclude_modules": ["layers.0.mlp.up_proj"]},
            "LoRA: 7 modules in 4 of 4 layers",
        ),
        ("qwen3.5", {"target_modules": "all-linear"}, "LoRA: 31 modules in 4 of 4 layers"),
        (
            "qwen3.5",
            {"target_modules": ["q_proj", "up_proj"]},
            "LoRA: 5 modules in 4 of 4 layers; none in linear_attn",
        ),
        ("gpt2", {}, "LoRA: 4 modules in 4 of 4 layers; none in mlp"),
        (
            "gpt-oss",
            {"target_modules": [], "target_parameters": ["mlp.experts.gate_up_proj"]},
            "LoRA: 4 modules in 4 of 4 layers; none in self_attn",
        ),
        ("mamba2", {"target_modules": ["in_proj"]}, "LoRA: 2 modules in 2 of 2 layers"),
    ],
)
def test_the_coverage_is_that_of_the_text_decoder(model: str, lora: dict[str, Any], line: str, tmp_path: Path) -> None:
    assert coverage(tmp_path, model, **lora).describe() == line


@pytest.mark.parametrize(
    ("model", "lora", "message"),
    [
        (
            "qwen3.5",
            {"target_modules": ["q_proj", "v_proj"]},
            "3 of 4 layers, the first is 0, get no adapter; their linear",
        ),
        ("qwen3.5", {"target_modules": ["linear_attn.out_proj"]}, "1 of 4 layers, the first is 3"),
        ("gemma3 with vision", {"target_modules": ["fc1"]}, "fc1 matches no module of the model"),
        ("gemma3 with vision", {"target_modules": ["q_proj", "out_proj"]}, "out_proj matches no module of the model"),
        ("llama", {"target_modules": ["q_proj"], "bias": "all"}, "lora.bias: the model has no bias terms to train"),
        ("llama", {"modules_to_save": ["lm_head"], "ensure_weight_tying": True}, "embeddings are not tied"),
        ("gemma3 with vision", {}, "lora: Please specify `target_modules`"),
    ],
)
def test_a_layer_without_adapter_and_a_module_outside_of_the_decoder_are_refused(
    model: str, lora: dict[str, Any], message: str, tmp_path: Path
) -> None:
    assert message in refusal(tmp_path, model, **lora)
