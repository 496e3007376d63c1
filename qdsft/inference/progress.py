"""Show how far decoding is: a bar on a terminal, now and then a line in a log."""

from __future__ import annotations

import sys
import time
from typing import Any

import torch
from tqdm import tqdm
from transformers import StoppingCriteria

from qdsft.console import say

LINE_EVERY = 30.0
"""Seconds between two lines in a log."""


class Progress:
    """The rows that are decoded, and the tokens of the batch that is being decoded."""

    def __init__(self, rows: int, *, shown: bool) -> None:
        is_terminal = sys.stderr.isatty()
        self._bar = tqdm(total=rows, desc="decoding", unit="row", disable=not (shown and is_terminal))
        self._lines = shown and not is_terminal
        self._rows, self._done, self._last = rows, 0, time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def add_rows(self, number: int) -> None:
        """Count rows of a batch that has ended."""
        self._done += number
        self._bar.set_postfix_str("", refresh=False)
        self._bar.update(number)

    def add_token(self, tokens: int) -> None:
        """Show the tokens of each answer in the batch so far, at most once a second."""
        pause = LINE_EVERY if self._lines else 1.0
        if time.monotonic() - self._last < pause:
            return
        self._last = time.monotonic()
        if self._lines:
            say(f"decoding: {self._done} of {self._rows} rows, {tokens} tokens of the next ones")
        else:
            self._bar.set_postfix_str(f"{tokens} tokens of the next rows")


class ShowTokens(StoppingCriteria):
    """Tell `progress` the number of new tokens after every step; never stops."""

    def __init__(self, progress: Progress, prompt_width: int) -> None:
        self._progress = progress
        self._width = prompt_width

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        self._progress.add_token(input_ids.shape[1] - self._width)
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
