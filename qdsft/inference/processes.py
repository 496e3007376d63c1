"""Several processes, started by accelerate launch or torchrun, that share one piece of work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed

from qdsft.environment import variable
from qdsft.errors import UserError

Result = TypeVar("Result")

LONGEST_START = timedelta(minutes=30)
"""Between the first process and the last."""
LONGEST_WAIT = timedelta(days=7)
"""Of a process for the others' shares; that one has died is noticed at once, by its connection."""


class Processes:
    """This process and the others of its launch."""

    def __init__(self, rank: int, size: int, group: Any = None) -> None:
        self.rank = rank
        self.size = size
        self._group = group

    @property
    def is_main(self) -> bool:
        """Whether this is the process that merges and writes."""
        return self.rank == 0

    def share(self, rows: int) -> range:
        """The indices of the rows that are this process's own."""
        return range(self.rank, rows, self.size)

    def gather(self, work: Callable[[], Result]) -> list[Result]:
        """Do `work` in every process; the results of all, by rank, in every process.

        A UserError of any of them is raised in all. Raises UserError if one ends before it is done.
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
        except RuntimeError as error:  # gloo's, when a connection closes
            raise UserError(
                "another process of this launch has ended early, see what it said; start again: decoded rows are kept"
            ) from error
        for rank, (_, message) in enumerate(outcomes):
            if message is not None:
                raise UserError(message if rank == 0 else f"process {rank} of {self.size}: {message}")
        return [result for result, _ in outcomes]


@contextmanager
def launched() -> Iterator[Processes]:
    """The processes of this launch, connected (gloo); each computes on the GPU of its LOCAL_RANK.

    To be entered before a model is loaded: "cuda" means another card in every process from then on.
    """
    rank, size = int(variable("RANK", "0")), int(variable("WORLD_SIZE", "1"))
    if size == 1:
        yield Processes(0, 1)
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(variable("LOCAL_RANK", "0")))
    try:
        distributed.init_process_group("gloo", timeout=LONGEST_START)
        group = distributed.new_group(backend="gloo", timeout=LONGEST_WAIT)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"the {size} processes of WORLD_SIZE do not find one another ({str(error).splitlines()[0][:200]}); start "
            "them with accelerate launch -m qdsft ..., or unset WORLD_SIZE"
        ) from error
    try:
        yield Processes(rank, size, group)
    finally:
        distributed.destroy_process_group()
