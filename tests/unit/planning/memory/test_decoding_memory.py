"""Decoding against a real model that generates on a CPU, and the cache against transformers' own."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from helpers.memory_trace import LiveBytes
from helpers.model_configs import CONFIGS, make_setup, read, shapes_of
from transformers import AutoConfig, AutoModelForCausalLM

from qdsft.planning.memory.decoding_memory import decoding_peak, key_value_cache
from qdsft.planning.memory.shapes import read_shapes

SMALL = {
    "llama-2-7b": {"hidden_size": 256, "intermediate_size": 704, "num_attention_heads": 8, "num_key_value_heads": 8},
    "mistral-7b-v0.3": {"hidden_size": 256, "intermediate_size": 896, "num_attention_heads": 8},
    "polyglot-ko-5.8b": {"hidden_size": 256, "intermediate_size": 1024, "num_attention_heads": 4},
    "qwen3-4b": {"hidden_size": 256, "intermediate_size": 768, "num_attention_heads": 8, "head_dim": 64},
}
"""Proportions of the real ones, small enough to generate with."""


def small(name: str) -> dict[str, Any]:
    path = next(path for path in CONFIGS if path.stem == name)
    config = read(path) | SMALL[name] | {"num_hidden_layers": 4, "vocab_size": 2000, "max_window_layers": 4}
    if config.get("num_key_value_heads") == 8 and name != "llama-2-7b":
        config["num_key_value_heads"] = 2
    return {key: value for key, value in config.items() if key not in {"torch_dtype", "architectures"}} | {
        "bos_token_id": 1,
        "eos_token_id": None,
    }


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "prompt", "new"), [(8, 64, 64), (2, 256, 16), (16, 16, 48)])
@pytest.mark.parametrize("name", SMALL)
def test_decoding_against_a_real_model(name: str, rows: int, prompt: int, new: int) -> None:
    """Real tensors of a real generate(); within 25 %, and never more than 10 % too little."""
    config = small(name)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), dtype=torch.float32).eval()
    ids = torch.randint(5, 1999, (rows, prompt))
    mask = torch.ones_like(ids)
    mask[: rows // 2, : prompt // 4] = 0
    with torch.no_grad(), LiveBytes([*model.parameters(), *model.buffers(), ids, mask]) as live:
        model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=new, min_new_tokens=new, do_sample=False, pad_token_id=0
        )
    shapes = read_shapes(config, name)
    setup = make_setup("full in float32", checkpointing=False)
    peak = decoding_peak(shapes, setup, rows=rows, prompt=prompt, new_tokens=new)
    modelled = max(
        total - peak.components["weights"] - peak.components["CUDA context"]
        for phase, total in peak.phases.items()
        if phase != "loss"
    )
    assert 0.9 < modelled / live.peak < 1.25


def test_the_cache_of_a_published_model() -> None:
    """Llama-2-7B keeps 2 x 32 layers x 4096 x 2 bytes = 512 KiB a token; grouped heads keep a quarter."""
    setup = make_setup("qlora")
    assert key_value_cache(shapes_of("llama-2-7b"), setup, 1, 1) == 512 * 2**10
    assert key_value_cache(shapes_of("mistral-7b-v0.3"), setup, 1, 1) == 128 * 2**10


def test_a_window_limits_the_cache() -> None:
    setup, gemma = make_setup("qlora"), shapes_of("gemma-3-270m")
    short, long = (key_value_cache(gemma, setup, 1, length) for length in (512, 1024))
    assert long - short == 2 * 2 * 256 * 3 * 512  # three of eighteen layers see everything
    assert gemma.windows.count(None) == 3


def test_adapters_are_loaded_in_float32_and_full_models_in_16_bit() -> None:
    shapes = shapes_of("llama-2-7b")
    adapter = decoding_peak(shapes, make_setup("qlora"), rows=1, prompt=10, new_tokens=10)
    assert adapter.components["LoRA weights"] == 4 * 39_976_960
    full = decoding_peak(shapes, make_setup("full"), rows=1, prompt=10, new_tokens=10)
    assert full.components["weights"] == 2 * shapes.parameters


def test_scoring_the_loss_counts_the_vocabulary() -> None:
    shapes = dataclasses.replace(shapes_of("qwen3-4b"), vocab=1_000_000)
    peak = decoding_peak(shapes, make_setup("qlora"), rows=1, prompt=100, new_tokens=500)
    assert peak.phase == "loss"
    assert peak.components["logits"] == 501 * 1_000_000 * 10
