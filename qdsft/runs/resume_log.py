"""JSON Lines that let a killed command resume.

The first line is the identity: everything that the results depend on. Each later line is the result of one row, written
as soon as it is known.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Generic, TypeVar

from qdsft.console import say
from qdsft.errors import UserError
from qdsft.files import disk_errors
from qdsft.strict_json import to_json

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Identity = dict[str, Any]
Result = TypeVar("Result", bound="DataclassInstance")


class ResumeLog(Generic[Result]):
    """An open log."""

    def __init__(self, path: Path, file: IO[bytes], results: dict[int, Result], remedy: str) -> None:
        self._path, self._file, self._remedy = path, file, remedy
        self.results = results
        """Index of the row -> its result, those of earlier processes included."""

    def add(self, index: int, result: Result) -> None:
        """Append a result. It survives a SIGKILL after this returns. Raises UserError if the disk is full."""
        self.results[index] = result
        with disk_errors(self._path, self._remedy):
            self._file.write(_to_line({"index": index, **asdict(result)}))

    def delete(self) -> None:
        """Close and delete the log, once its results are in the output."""
        self._file.close()
        self._path.unlink(missing_ok=True)


@contextmanager
def open_log(
    path: Path, identity: Identity, result_type: type[Result], *, remedy: str, replace: bool = True
) -> Iterator[ResumeLog[Result]]:
    """Open a log and read the results of earlier processes with the same `identity`.

    The file is truncated after its last complete line. A log with another identity is discarded with a message, or
    without `replace` refused. A log without results is deleted on exit; any other log stays until it is deleted. Only
    one process may write a log: hold `files.exclusive`. Raises UserError with `remedy` if the file cannot be written.
    """
    with disk_errors(path, remedy):
        file = path.open("a+b", buffering=0)  # unbuffered: a result is in the file when `add` returns
    with file:
        with disk_errors(path, remedy):
            if not replace and (other := _other_identity(path, identity)):
                raise UserError(f"{path}: {other}; {remedy}")
            log = ResumeLog(path, file, _resume(file, path, identity, result_type), remedy)
        try:
            yield log
        finally:
            if not log.results:
                log.delete()


def read_log(path: Path, identity: Identity, result_type: type[Result]) -> dict[int, Result]:
    """Return index -> result of the log at `path`; empty if it is missing or has another identity."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    return _parse(content, identity, result_type)[0]


def _resume(file: IO[bytes], path: Path, identity: Identity, result_type: type[Result]) -> dict[int, Result]:
    file.seek(0)
    content = file.read()
    results, usable = _parse(content, identity, result_type)
    file.truncate(usable)
    if content and not usable:
        say(f"{path}: {_difference(content.splitlines()[0], identity)}; it is discarded")
    if not usable:
        file.write(_to_line(identity))
    return results


def _parse(content: bytes, identity: Identity, result_type: type[Result]) -> tuple[dict[int, Result], int]:
    """Return the results before the first damaged line, and how many bytes they take with the identity (0: another)."""
    first, *rest = content.splitlines(keepends=True) or [b""]
    if _value(first) != identity:
        return {}, 0
    results, usable = {}, len(first)
    for line in rest:
        try:
            value = _value(line)
            index = int(value.pop("index"))
            results[index] = result_type(**value)
        except (TypeError, KeyError, AttributeError, ValueError):
            break
        usable += len(line)
    return results, usable


def _other_identity(path: Path, identity: Identity) -> str | None:
    """Return how the identity of a log differs; None for the same one, and for a log without a complete line."""
    first, newline, _ = path.read_bytes().partition(b"\n")
    return _difference(first, identity) if newline and _value(first + newline) != identity else None


def _difference(first: bytes, identity: Identity) -> str:
    other = _value(first + b"\n")
    if not isinstance(other, dict):
        return "holds no answers of this command"
    changed = sorted(key for key in identity.keys() | other.keys() if other.get(key) != identity.get(key))
    return f"holds answers that were made with different values of {', '.join(changed)}"


def _to_line(value: dict[str, Any]) -> bytes:
    return (to_json(value) + "\n").encode("utf-8")


def _value(line: bytes) -> Any:
    """Return the value of a complete line; None for any other line."""
    try:
        return json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
