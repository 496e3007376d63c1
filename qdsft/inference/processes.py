"""Share the rows of one command among processes started by accelerate launch or torchrun.

accelerate's gather_object is not used: it exchanges results only, not errors, and PartialState connects GPUs by NCCL,
whose waits end after minutes, while one process may decode for hours longer than another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed

from qdsft.environment import variable
from qdsft.errors import SharedError, UserError
from qdsft.launch import check_environment, process_rank, waiting_for_processes, world_size

Result = TypeVar("Result")

LONGEST_START = timedelta(minutes=30)
"""Time limit from the start of the first process to the start of the last."""
LONGEST_WAIT = timedelta(days=7)
"""Time limit for the results of the other processes. A process that dies is noticed at once by its connection."""


class Processes:
    """This process and the others of its launch."""

    def __init__(self, rank: int, size: int, group: Any = None) -> None:
        self.rank = rank
        self.size = size
        self._group = group

    @property
    def is_main(self) -> bool:
        """Return whether this process merges and writes the results."""
        return self.rank == 0

    def share(self, rows: int) -> range:
        """Return the indices of the rows that this process works on."""
        return range(self.rank, rows, self.size)

    def gather(self, work: Callable[[], Result]) -> list[Result]:
        """Run `work` in every process, and return the results of all, by rank, in every process.

        A UserError of any process is raised in all. Raises UserError if a process ends early.
        """
        if self.size == 1:
            return [work()]
        outcome: tuple[Result | None, str | None]
        try:
            outcome = work(), None
        except UserError as error:
            outcome = None, str(error)
        outcomes: list[tuple[Result, str | None]] = [None] * self.size  # type: ignore[list-item]
        try:
            distributed.all_gather_object(outcomes, outcome, group=self._group)
        except RuntimeError as error:  # from gloo, when a connection closes
            raise UserError(
                "another process of this launch ended early, see its message; start again: decoded rows are kept"
            ) from error
        for rank, (_, message) in enumerate(outcomes):
            if message is not None:
                raise SharedError(message if rank == 0 else f"process {rank} of {self.size}: {message}")
        return [result for result, _ in outcomes]


@contextmanager
def launched() -> Iterator[Processes]:
    """Connect the processes of this launch by gloo, and choose the GPU of LOCAL_RANK in each.

    Enter this before a model is loaded: from then on, "cuda" means another GPU in every process.
    """
    check_environment()
    rank, size = process_rank(), world_size()
    if size == 1:
        yield Processes(0, 1)
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(variable("LOCAL_RANK", "0")))
    with waiting_for_processes(LONGEST_START):
        distributed.init_process_group("gloo", timeout=LONGEST_START)
        group = distributed.new_group(backend="gloo", timeout=LONGEST_WAIT)
    try:
        yield Processes(rank, size, group)
    finally:
        distributed.destroy_process_group()
