"""Tokens of a row without loading a model: only the tokenizer file of a local model folder is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from qdsft.recipe import Recipe


def token_counter(recipe: Recipe) -> tuple[Callable[[Iterable[str]], int] | None, str]:
    """(count of the tokens of some texts together, a note on what it counts), or (None, why there is none)."""
    limit = recipe.max_length
    if limit is None:
        return None, "lengths were not checked: training.max_length is null"
    path = Path(recipe.model.name_or_path) / "tokenizer.json"
    if not path.is_file():
        return None, f"lengths were not checked: there is no {path} on this machine"
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing narrower
        return None, f"lengths were not checked: {path} cannot be read: {error}"
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def count(texts: Iterable[str]) -> int:
        return sum(len(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts)

    return count, f"lengths are those of messages and answer without the chat template, which adds some; limit {limit}"
