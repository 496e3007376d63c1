"""Print progress to standard error from the main process only, and results to standard output."""

from __future__ import annotations

import logging
import os
import re
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from qdsft.environment import variable
from qdsft.errors import SharedError, UserError
from qdsft.launch import process_rank, world_size

FIRST_GRACE, FURTHER_GRACE = 3.0, 0.5
"""Seconds that the second process, and each further one, leaves to the ones before it to print an error."""

_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def is_main_process() -> bool:
    """Return True in rank 0 of a launch, and in a process that was not launched."""
    return process_rank() == 0


def quiet_libraries() -> None:
    """Hide messages of libraries that no user can act on. Call it before the libraries are imported."""
    warnings.filterwarnings("ignore", category=FutureWarning)  # renamings inside the pinned releases
    # DeepSpeed reports a missing GPU on standard output, which is for results.
    logging.getLogger("DeepSpeed").addFilter(lambda record: "Setting accelerator to CPU" not in record.getMessage())
    # bitsandbytes asks for a package that only a feature needs which model.quantization switches off.
    logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(lambda record: "kernels" not in record.getMessage())


def end_progress() -> None:
    """Close progress bars that an error left open, so that the next message starts on a new line."""
    if tqdm := sys.modules.get("tqdm"):
        for bar in list(tqdm.tqdm._instances):
            bar.close()


def visible(text: str) -> str:
    """Return the text with its control characters escaped, except line feeds and tabs.

    Names, questions, keys and paths come from files of others: an escape sequence in them could clear the terminal,
    set its title or hide text. The escapes are also valid inside JSON strings.
    """
    return _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def say(text: str) -> None:
    """Print a line of progress to standard error."""
    if is_main_process():
        print(visible(text), file=sys.stderr, flush=True)


def has_colour() -> bool:
    """Return True if results go to a terminal that shows colours; NO_COLOR turns them off."""
    return sys.stdout.isatty() and not variable("NO_COLOR")


def print_result(text: str, *, end: str = "\n", flush: bool = False) -> None:
    """Print a line of a result to standard output."""
    print(visible(text), end=end, flush=flush)


def print_note(text: str) -> None:
    """Print a line about a row or an answer to standard error, in every process of a launch."""
    print(visible(text), file=sys.stderr)


def print_error(error: UserError) -> None:
    """Print an error on one line, in the lowest process of a launch that has one.

    Processes above 0 wait a moment first. If a lower one fails too, it prints and exits, and the launcher ends this
    one meanwhile.
    """
    rank = process_rank()
    if rank and isinstance(error, SharedError):
        return
    if rank:
        time.sleep(FIRST_GRACE + FURTHER_GRACE * (rank - 1))
    end_progress()
    where = f"process {rank} of {world_size()}: " if rank else ""
    print(visible(f"error: {where}{error}"), file=sys.stderr, flush=True)


@contextmanager
def standard_output() -> Iterator[None]:
    """Turn a full disk behind standard output into a UserError; a closed pipe stays a BrokenPipeError."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        # Python flushes the buffer again at exit, which would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise UserError(f"standard output cannot be written: {error.strerror}") from error
