"""What is said while a command works: on standard error, by the first process only."""

from __future__ import annotations

import logging
import os
import sys
import warnings


def is_main_process() -> bool:
    """Whether this process is rank 0 of the launch (or the only one)."""
    return int(os.environ.get("RANK", "0")) == 0


def quiet_libraries() -> None:
    """Leave out what libraries say that no user can act on; to be called before they are imported."""
    warnings.filterwarnings("ignore", category=FutureWarning)  # renamings inside the pinned releases
    # DeepSpeed says on standard output, where results belong, that a machine without a GPU has none.
    logging.getLogger("DeepSpeed").addFilter(lambda record: "Setting accelerator to CPU" not in record.getMessage())


def say(text: str) -> None:
    """Print one line of progress."""
    if is_main_process():
        print(text, file=sys.stderr, flush=True)
