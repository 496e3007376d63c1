"""Estimate rows, tokens and steps from the data file, without the model's tokenizer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from qdsft.data.sources import data_files, is_on_hub
from qdsft.data.split import stream_split
from qdsft.errors import UserError
from qdsft.recipe import Recipe

READ_AT_MOST = 2_000
"""Rows that are read; the rest of the file is assumed to be like them."""
BYTES_PER_TOKEN = 3.5
"""Estimated UTF-8 bytes per token: about 4 for English, 2 to 4 for Korean, depending on the tokenizer."""
FULL = 0.97
"""Share of a packed row that holds tokens: 0.97 to 0.99 was measured for rows of 256 to 2048 tokens."""
TEMPLATE_TOKENS = 20
"""Estimated tokens that a chat template adds to a row."""


@dataclass(frozen=True)
class Workload:
    """An estimate of the training rows, with the chat template guessed."""

    rows: int
    tokens: int
    """Tokens of all training rows, counted once."""
    longest: int
    """Tokens of the longest row that was read."""
    longest_prompt: int
    read: int
    """Rows that were read for the estimate."""

    def steps(self, recipe: Recipe, gpus: int) -> int:
        """Return the optimizer steps of the whole run, as the trainer counts them."""
        limit: int = recipe.training_value("max_steps")
        if limit > 0:
            return limit
        batches = math.ceil(self._trained_rows(recipe) / _rows_of_a_batch(recipe, gpus))
        an_epoch = max(math.ceil(batches / recipe.accumulation_steps(gpus)), 1)
        return math.ceil(an_epoch * float(recipe.training_value("num_train_epochs")))

    def tokens_seen(self, recipe: Recipe, gpus: int) -> int:
        """Return the tokens of all epochs together, without padding."""
        limit: int = recipe.training_value("max_steps")
        if limit <= 0:
            return math.ceil(self.tokens * float(recipe.training_value("num_train_epochs")))
        rows = limit * recipe.accumulation_steps(gpus) * _rows_of_a_batch(recipe, gpus)
        return math.ceil(rows * self.tokens / self._trained_rows(recipe))

    def _trained_rows(self, recipe: Recipe) -> int:
        if recipe.packing and recipe.max_length:
            return math.ceil(self.tokens / (FULL * recipe.max_length))
        return self.rows


def estimate_workload(recipe: Recipe) -> tuple[Workload | None, str]:
    """Return the workload and a note on it, or None and the reason. Faults of the data are left to `check`."""
    if is_on_hub(recipe):
        return None, "the data are on the Hub and were not read"
    try:
        paths = data_files(recipe, "train")
        training = (example for side, example in stream_split(recipe) if side == "train")
        examples = list(islice(training, READ_AT_MOST))
    except UserError as error:
        return None, f"the data cannot be read: {error}"
    prompts = ["".join(message["content"] for message in example.messages) for example in examples]
    lengths = [_tokens(prompt + example.completion) for prompt, example in zip(prompts, examples, strict=True)]
    rows = _rows(paths, len(examples), recipe)
    workload = Workload(
        rows=rows,
        tokens=round(sum(lengths) * rows / len(examples)),
        longest=max(lengths),
        longest_prompt=max(map(_tokens, prompts)),
        read=len(examples),
    )
    others = "" if rows == len(examples) else ", assuming the others are like them"
    return workload, f"estimated from {len(examples)} rows at {BYTES_PER_TOKEN} bytes a token{others}"


def _rows(paths: Sequence[Path], read: int, recipe: Recipe) -> int:
    """Return the training rows of the whole file: counted if all were read, otherwise estimated from its lines."""
    rows = read
    if read == READ_AT_MOST and all(path.suffix == ".jsonl" for path in paths):
        lines = sum(_count_lines(path) for path in paths)
        rows = max(read, round(lines * (1 if recipe.data.eval else 1 - recipe.data.eval_fraction)))
    return min(rows, recipe.data.max_samples or rows)


def _count_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


def _tokens(text: str) -> int:
    return math.ceil(len(text.encode("utf-8", "replace")) / BYTES_PER_TOKEN) + TEMPLATE_TOKENS


def _rows_of_a_batch(recipe: Recipe, gpus: int) -> int:
    rows: int = recipe.training_value("per_device_train_batch_size")
    return rows * gpus
