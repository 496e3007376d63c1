"""What commands say: progress on standard error, by the first process only; results on standard output."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from qdsft.environment import variable
from qdsft.errors import UserError


def is_main_process() -> bool:
    """Whether this process is rank 0 of the launch (or the only one)."""
    return int(variable("RANK", "0")) == 0


def quiet_libraries() -> None:
    """Leave out what libraries say that no user can act on; to be called before they are imported."""
    warnings.filterwarnings("ignore", category=FutureWarning)  # renamings inside the pinned releases
    # DeepSpeed says on standard output, where results belong, that a machine without a GPU has none.
    logging.getLogger("DeepSpeed").addFilter(lambda record: "Setting accelerator to CPU" not in record.getMessage())
    # bitsandbytes misses a package that only serves what model.keep_quantized_weights switches off.
    logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(lambda record: "kernels" not in record.getMessage())


def end_progress() -> None:
    """Close progress bars that an error left open, so that what is said next begins a line of its own."""
    if tqdm := sys.modules.get("tqdm"):
        for bar in list(tqdm.tqdm._instances):
            bar.close()


def say(text: str) -> None:
    """Print one line of progress."""
    if is_main_process():
        print(text, file=sys.stderr, flush=True)


@contextmanager
def standard_output() -> Iterator[None]:
    """Around writing results: a full disk is a UserError; a reader that went away stays a BrokenPipeError."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        # What is still buffered would fail once more when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise UserError(f"standard output cannot be written: {error.strerror}") from error
