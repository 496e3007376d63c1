"""Writing so that a half-written file or folder never stands under its final name."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from qdsft.errors import UserError


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an OSError (read-only, full, not a folder) into a UserError that names `path`."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written: {error.strerror or error}; free some space or choose another folder "
            "with training.output_dir"
        ) from error


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


def write_new_lines(path: Path, lines: Iterable[str]) -> int:
    """Write lines to a file that does not exist yet, as they come; returns how many.

    The file gets its name when it is complete. Raises UserError if something of this name exists or it
    cannot be written.
    """
    if os.path.isdir(path):  # unlike path.is_dir, no error for a name that is too long
        raise UserError(f"{path} is a folder; give the name of a file")
    if os.path.lexists(path):
        raise UserError(f"{path} exists; delete it or choose another name")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        written = 0
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            for line in lines:
                file.write(line + "\n")
                written += 1
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}; choose another file") from error
    finally:
        with suppress(OSError):  # such as that of a parent that is no folder
            temporary.unlink(missing_ok=True)
    return written


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
