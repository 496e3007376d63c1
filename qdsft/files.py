"""Writing so that a half-written file or folder never stands under its final name."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from qdsft.errors import UserError


@contextmanager
def disk_errors(path: Path, remedy: str = "choose another folder with training.output_dir") -> Iterator[None]:
    """Turn an OSError (read-only, full, not a folder) into a UserError that names `path`."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}; free some space or {remedy}") from error


def write_text(path: Path, text: str) -> None:
    """Write a whole UTF-8 file, or nothing."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with disk_errors(path):
        try:
            temporary.write_text(text, encoding="utf-8", newline="\n")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON, readable, or nothing."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def new_text(path: Path) -> Iterator[Callable[[str], None]]:
    """What writes to a UTF-8 file piece by piece; it gets its name when the block ends well, else it is gone.

    Raises UserError if `path` exists or cannot be written; errors of anything else in the block pass through.
    """
    remedy = "choose another place"
    if os.path.lexists(path):
        raise UserError(f"{path} exists; delete it or choose another name")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with disk_errors(path, remedy):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = temporary.open("w", encoding="utf-8", newline="\n")

    def write(text: str) -> None:
        with disk_errors(path, remedy):
            file.write(text)

    try:
        yield write
        with disk_errors(path, remedy):
            file.close()
            os.replace(temporary, path)
    finally:
        with suppress(OSError):  # a full disk refuses what is left in the buffer a second time
            file.close()
        temporary.unlink(missing_ok=True)


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """A temporary folder that becomes `path` when the block ends well, replacing what was there."""
    temporary = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    with disk_errors(path):
        temporary.mkdir(parents=True)
        try:
            yield temporary
            shutil.rmtree(path, ignore_errors=True)
            os.replace(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
