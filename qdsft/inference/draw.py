"""Draw the next tokens of a batch at random, each row with a random generator that belongs to it alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import LogitsProcessor

TOP_K = 50
"""Tokens that are drawn from, as in transformers. The other tokens of a large vocabulary are hardly ever right."""


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn."""

    temperature: float
    top_p: float
    """Draw from the most likely tokens that have this share of the probability together (Holtzman et al. 2020)."""
    seeds: Sequence[str]
    """One for each prompt. An answer depends on its seed, and not on the other prompts of its batch."""

    def draw(self, indices: Sequence[int]) -> Draw:
        """Return what draws the answers to the prompts at these indices."""
        return Draw(self, [random.Random(self.seeds[index]) for index in indices])


class Draw(LogitsProcessor):
    """Draw the next token of every row, and leave that token alone possible, so that greedy decoding takes it."""

    def __init__(self, sampling: Sampling, generators: Sequence[random.Random]) -> None:
        self._sampling = sampling
        self._generators = list(generators)

    def keep(self, rows: Sequence[int]) -> None:
        """Keep only these rows, in this order."""
        self._generators = [self._generators[row] for row in rows]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return `scores` `[rows, vocabulary]` with -inf for every token but the drawn one."""
        top = torch.topk(scores.float(), min(TOP_K, scores.shape[1]), dim=-1)  # most likely first
        shares = torch.softmax(top.values / self._sampling.temperature, dim=-1)
        shares = shares.masked_fill(shares.cumsum(-1) - shares >= self._sampling.top_p, 0.0)
        below = shares.cumsum(-1)
        numbers = torch.tensor([[one.random()] for one in self._generators], device=scores.device)
        place = (below <= numbers * below[:, -1:]).sum(-1, keepdim=True)
        # Rounding can put the number at the end of the last share.
        place = place.minimum((shares > 0).sum(-1, keepdim=True) - 1).clamp(min=0)
        return torch.full_like(scores, float("-inf")).scatter_(1, top.indices.gather(1, place), 0.0)
