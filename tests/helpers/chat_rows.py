"""Examples to tokenize, and tokenizers with the chat templates of the recipes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from helpers.paths import ROOT
from transformers import AutoTokenizer

from qdsft.data.examples import Example
from qdsft.data.record import Record
from qdsft.tokenization.length_limit import TokenizedRows, encode_examples

TEMPLATES = {
    "llama2": "llama",
    "mistral": "mistral",
    "koalpaca": "gpt_neox",
    "gemma3_270m": "gemma3_text",
    "tiny": "llama",
    "qwen3_4b": "qwen3",
}
"""Recipe folder -> architecture of the tiny model. Qwen's template comes with the model."""


def load_with_template(folder: str, tiny_model: Callable[[str], Path]) -> Any:
    """Return a tiny tokenizer with the chat template of a recipe folder."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model(TEMPLATES[folder]))
    template = ROOT / "recipes" / folder / "chat_template.jinja"
    if template.is_file():
        tokenizer.chat_template = template.read_text(encoding="utf-8")
    return tokenizer


def make_example(
    question: str = "Who is older, A or B?", answer: str = "1. How old is A?\n2. How old is B?"
) -> Example:
    """Return an example from train.jsonl, line 7."""
    messages = ({"role": "system", "content": "Split it."}, {"role": "user", "content": question})
    return Example(Record({}, "train.jsonl:7"), messages, answer)


def make_examples(count: int, question: str = "Is {n} more than 7?", answer: str = "1. What is {n}?") -> list[Example]:
    """Return examples numbered from 0; the sources are t:0, t:1 and so on."""
    return [
        make_example(question.format(n=n), answer.format(n=n))._replace(record=Record({}, f"t:{n}"))
        for n in range(count)
    ]


def encode(
    tokenizer: Any, *examples: Example, max_length: int | None = None, overlength: str = "error"
) -> TokenizedRows:
    """Encode examples that stop at the tokenizer's own end token."""
    stop_ids = [tokenizer.eos_token_id]
    return encode_examples(tokenizer, examples, stop_ids, max_length=max_length, overlength=overlength)
