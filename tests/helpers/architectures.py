"""The architecture of the tiny model that replaces the model of each recipe folder."""

from __future__ import annotations

ARCHITECTURES = {
    "exaone4_1_2b": "exaone4",
    "gemma3_270m": "gemma3_text",
    "gemma3_4b": "gemma3",
    "hyperclovax_1_5b": "hyperclovax",
    "kanana1_5_8b": "kanana",
    "koalpaca": "gpt_neox",
    "llama2": "llama",
    "llama3_2_3b": "llama3_2",
    "llama3_korean": "llama3",
    "ministral_8b": "ministral",
    "mistral": "mistral",
    "qwen3_1_7b": "qwen3_thinking",
    "qwen3_4b": "qwen3",
    "qwen3_8b": "qwen3_thinking",
    "tasks": "qwen3",
    "tiny": "llama",
}
"""Recipe folder -> architecture of its model."""
