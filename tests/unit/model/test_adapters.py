"""Adapters sit on the text decoder alone and on every layer of it, and every name in the lora section matches."""

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
    ("lora", "message"),
    [
        (
            {"target_modules": ["q_proj", "v_prj"]},
            "lora.target_modules: v_prj matches no module of the model; did you mean v_proj?",
        ),
        ({"target_modules": ["self_attn.qproj"]}, "did you mean self_attn.q_proj?"),
        ({"target_modules": ["proj"]}, "proj matches no module of the model"),
        ({"target_modules": ".*query"}, ".*query matches no module of the model"),
        ({"target_modules": ["q_proj", "mlp"]}, "LlamaMLP( (gate_proj)"),
        ({"target_modules": ["q_proj"], "modules_to_save": ["lm_haed"]}, "did you mean lm_head?"),
        ({"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "emb_tokens"]}, "did you mean embed_tokens?"),
        ({"target_modules": ["q_proj"], "exclude_modules": ["k_porj"]}, "did you mean k_proj?"),
        ({"target_modules": ["q_proj"], "exclude_modules": "nothing.*"}, "lora.exclude_modules: nothing.* matches"),
        (
            {"target_modules": ["q_proj"], "rank_pattern": {"nothing": 4}},
            "lora.rank_pattern: nothing matches no module",
        ),
        ({"target_modules": ["q_proj"], "rank_pattern": {"k_proj": 4}}, "k_proj matches no module"),
        ({"target_modules": ["q_proj"], "alpha_pattern": {"q_prj": 4}}, "did you mean q_proj?"),
        (
            {"target_modules": ["q_proj"], "rank_pattern": {"q_proj": 4, "layers.0.self_attn.q_proj": 2}},
            "layers.0.self_attn.q_proj is never used",
        ),
        ({"target_modules": ["q_proj"], "alpha_pattern": {"q_proj(": 4}}, "is no regular expression"),
        ({"target_modules": ["q_proj"], "layers_to_transform": [0, 4]}, "layer 4 of 4 has none of the target modules"),
        ({"target_modules": ["q_proj"], "layers_to_transform": [0], "layers_pattern": "layer"}, "did you mean layers?"),
        ({"target_modules": [], "target_parameters": ["mlp.up.weight"]}, "matches no parameter of the model"),
        ({"target_modules": ["q_proj"], "trainable_token_indices": [300]}, "300 is no token of 300"),
        ({"target_modules": ["q_proj"], "trainable_token_indices": {"embed": [1]}}, "embed matches no module"),
    ],
)
def test_a_name_that_matches_nothing_is_refused_with_the_nearest(
    lora: dict[str, Any], message: str, tmp_path: Path
) -> None:
    assert message in refusal(tmp_path, "llama", **lora)


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
        ("gemma3 with vision", {}, "lora: Please specify `target_modules`"),
    ],
)
def test_a_layer_without_adapter_and_a_module_outside_of_the_decoder_are_refused(
    model: str, lora: dict[str, Any], message: str, tmp_path: Path
) -> None:
    assert message in refusal(tmp_path, model, **lora)
