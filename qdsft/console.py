"""What is said while a command works: on standard error, by the first process only."""

from __future__ import annotations

import os
import sys


def is_main_process() -> bool:
    """Whether this process is rank 0 of the launch (or the only one)."""
    return int(os.environ.get("RANK", "0")) == 0


def say(text: str) -> None:
    """Print one line of progress."""
    if is_main_process():
        print(text, file=sys.stderr, flush=True)
