"""A base model saved in 4 or 8 bits, as such models are on the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig


def save_quantized(source: Path, folder: Path, **options: Any) -> Path:
    """Save the model at `source` with bitsandbytes; by default in nf4 with double quantization."""
    values = options or {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
    model = AutoModelForCausalLM.from_pretrained(
        source, dtype=torch.float32, device_map="cpu", quantization_config=BitsAndBytesConfig(**values)
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return folder
