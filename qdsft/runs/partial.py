"""Answers kept as they come, so that a decoding that was killed goes on where it ended.

A file is as `kept_lines` has it; each line behind the first is the answer to one row.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from qdsft.console import say
from qdsft.files import disk_errors
from qdsft.runs.kept_lines import Identity, read_kept, to_line


@dataclass(frozen=True)
class Decoded:
    """The answer to one row, with its loss; one line of a file."""

    index: int
    """Place of the row among those evaluated, from 0."""
    text: str
    stopped: bool
    tokens: int
    """Generated tokens."""
    seconds: float
    """Of decoding; the first row of a batch has those of the batch, the others 0."""
    loss: float
    """Nats per supervised token of the gold answer."""
    supervised: int
    """How many such tokens there are."""


def partial_path(folder: Path, model: str, rank: int) -> Path:
    """Where a process keeps its answers until all are there."""
    return folder / f".predictions_{model}.{rank}.partial.jsonl"


def partial_files(folder: Path, model: str) -> list[Path]:
    """The files of all processes of this launch and of earlier ones."""
    return sorted(folder.glob(f".predictions_{model}.*.partial.jsonl"))


def read_partial(path: Path, identity: Identity) -> tuple[dict[int, Decoded], int] | None:
    """(index -> answer, length in bytes of what is whole), or None for a file that is not of `identity`."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    kept = read_kept(content, identity, lambda value: Decoded(**value))
    return kept and ({decoded.index: decoded for decoded in kept[0]}, kept[1])


def read_all(folder: Path, model: str, identity: Identity) -> dict[int, Decoded]:
    """The answers of all files of `identity`."""
    found: dict[int, Decoded] = {}
    for path in partial_files(folder, model):
        found |= (read_partial(path, identity) or ({}, 0))[0]
    return found


@contextmanager
def append_to(path: Path, identity: Identity) -> Iterator[PartialFile]:
    """Open a file to go on with it; one that is not of `identity` is discarded, and that is said."""
    kept = read_partial(path, identity)
    with disk_errors(path, "continue on another disk"):
        if kept is None and path.exists():
            say(f"{path}: of another run, other rows or other settings; discarded")
        with path.open("r+b" if kept else "wb") as file:
            if kept is None:
                file.write(to_line(identity))
            else:
                file.truncate(kept[1])
                file.seek(0, 2)
            file.flush()
            yield PartialFile(file)


class PartialFile:
    """A file that is open for more answers."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def add(self, decoded: Decoded) -> None:
        """Write an answer, so that it is kept however this process ends."""
        self._file.write(to_line(asdict(decoded)))
        self._file.flush()
