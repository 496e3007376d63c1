"""Which tiny model stands for the model of each recipe folder."""

from __future__ import annotations

ARCHITECTURES = {
    "gemma3_270m": "gemma3_text",
    "koalpaca": "gpt_neox",
    "llama2": "llama",
    "llama3_korean": "llama3",
    "mistral": "mistral",
    "qwen3_4b": "qwen3",
    "tasks": "qwen3",
    "tiny": "llama",
}
"""Folder of recipes -> the architecture of its model."""
