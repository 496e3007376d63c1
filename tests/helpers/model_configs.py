"""Config files of real models, what they describe, and setups to train them with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from helpers.paths import ROOT
from transformers import AutoConfig, AutoModelForCausalLM

from qdsft.planning.memory.setup import Setup
from qdsft.planning.memory.shapes import Shapes, read_shapes

CONFIG_FOLDER = ROOT / "tests" / "configs"
CONFIGS = sorted(CONFIG_FOLDER.glob("*.json"))


def read(path: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return config


def on_meta(config: dict[str, Any], dtype: torch.dtype = torch.bfloat16) -> Any:
    values = {key: value for key, value in config.items() if key not in {"torch_dtype", "architectures"}}
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(**values), dtype=dtype)


def shapes_of(name: str, **change: Any) -> Shapes:
    return read_shapes(json.loads((CONFIG_FOLDER / f"{name}.json").read_text(encoding="utf-8")) | change, name)


BF16, FP32 = torch.bfloat16, torch.float32


MODES: dict[str, tuple[torch.dtype, torch.dtype | None, bool]] = {
    "qlora": (BF16, BF16, True),
    "lora": (BF16, FP32, True),
    "lora in float32": (FP32, FP32, False),
    "full": (FP32, None, True),
    "full in float32": (FP32, None, False),
    "full under ZeRO": (BF16, None, False),
}
"""Training method -> formats of weights and adapters, and whether autocast computes in bfloat16."""


def make_setup(mode: str, **changes: Any) -> Setup:
    weights, adapters, autocast = MODES[mode]
    compute = 2 if autocast else weights.itemsize
    values: dict[str, Any] = {
        "stream": weights.itemsize,
        "compute": compute,
        "autocast": autocast,
        "bits": 4 if mode == "qlora" else None,
        "double_quant": True,
        "dequantized": 2,
        "unquantized": (),
        "adapter": None if adapters is None else adapters.itemsize,
        "lora": {} if adapters is None else {"r": 16, "target_modules": "all-linear"},
        "gradients": weights.itemsize,
        "master": 0,
        "optimizer": "adamw_8bit",
        "checkpointing": True,
        "every_n_layers": 1,
        "micro_batch": 1,
        "length": 1024,
        "packed": True,
        "attention": "sdpa",
        "cuda": False,
    }
    return Setup(**(values | changes))


CONFIG = read(CONFIG_FOLDER / "llama-2-7b.json")

RECIPE_CONFIGS = {
    "gemma3_270m": "gemma-3-270m",
    "koalpaca": "polyglot-ko-5.8b",
    "llama2": "llama-2-7b",
    "llama3_korean": "llama-3-8b",
    "mistral": "mistral-7b-v0.3",
    "qwen3_4b": "qwen3-4b",
    "tasks": "qwen3-4b",
    "tiny": "qwen2.5-0.5b",
}
"""Recipe folder -> config of its model in tests/configs. The tiny model has none, so another one is used."""
