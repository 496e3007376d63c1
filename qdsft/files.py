"""Write files and folders so that their final name appears only when they are complete."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from qdsft.errors import UserError
from qdsft.strict_json import to_json

RUN_REMEDY = "choose another folder with training.output_dir"


@contextmanager
def disk_errors(path: Path, remedy: str = RUN_REMEDY) -> Iterator[None]:
    """Turn an OSError (read-only, full, not a folder) into a UserError that names `path`."""
    try:
        yield
    except BrokenPipeError:  # from standard output: its reader has gone
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}; free some space or {remedy}") from error


def sync(path: Path) -> None:
    """Write a file, or all files of a folder, from memory to the disk.

    Without it, a power failure after a rename can leave the final name on an empty file.
    """
    for file in [path] if path.is_file() else [*path.rglob("*")]:
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
        else:
            sync_folder(file)
    if path.is_dir():
        sync_folder(path)


def sync_folder(path: Path) -> None:
    """Write the names in a folder to the disk."""
    with suppress(OSError):  # Windows opens no folders, and some network disks cannot sync them
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name that replaces `path` if the block succeeds, and is deleted if it fails."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        sync_folder(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file, or leave the old one if writing fails."""
    with disk_errors(path), replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def copy_file(source: Path, target: Path) -> None:
    """Copy a file, or leave the old target if copying fails."""
    with disk_errors(target), replacing(target) as temporary:
        shutil.copyfile(source, temporary)


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON, or leave the old file if writing fails."""
    write_text(path, to_json(value, indent=2) + "\n")


@contextmanager
def exclusive(
    path: Path, remedy: str = "choose another folder with training.output_dir=...", *, doing: str = "writing there"
) -> Iterator[None]:
    """Keep other processes of this machine from writing a file or folder, with a lock file beside `path`.

    The operating system releases the lock when the process ends, even when it is killed. Raises UserError if another
    process holds the lock.
    """
    from filelock import FileLock, Timeout

    lock_path = _lock_path(path)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock_path.touch()  # filelock takes some folders that cannot be written for a lock that is held
        lock = FileLock(lock_path, blocking=False, thread_local=False)
        try:
            lock.acquire()
        except Timeout as error:
            raise UserError(f"{path}: another process is {doing}; wait for it, or {remedy}") from error
    try:
        yield
    finally:
        with suppress(OSError):  # Windows does not delete an open file
            lock_path.unlink()
        lock.release()


def is_locked(path: Path) -> bool:
    """Return True if a process of this machine holds `path` with `exclusive`."""
    from filelock import FileLock, Timeout

    lock_path = _lock_path(path)
    if not os.path.isfile(lock_path):
        return False
    try:
        with FileLock(lock_path, blocking=False):
            return False
    except Timeout:
        return True
    except OSError:
        return False


def _lock_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


@contextmanager
def new_directory(path: Path, remedy: str = RUN_REMEDY) -> Iterator[Path]:
    """Yield a temporary folder that replaces `path` if the block succeeds."""
    temporary = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    with disk_errors(path, remedy):
        temporary.mkdir(parents=True)
        try:
            yield temporary
            sync(temporary)
            shutil.rmtree(path, ignore_errors=True)
            os.replace(temporary, path)
            sync_folder(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def refuse_existing(path: Path) -> None:
    """Raise UserError if `path` exists."""
    if os.path.isdir(path):  # unlike path.is_dir, no error for a name that is too long
        raise UserError(f"{path} is a folder; give the name of a file")
    if os.path.lexists(path):
        raise UserError(f"{path} exists; delete it or choose another name")


def refuse_existing_folder(path: Path, option: str = "--output") -> None:
    """Raise UserError if the path for a new folder, the value of `option`, exists."""
    if os.path.lexists(path):
        raise UserError(f"{path} exists; delete it or choose another {option}")


@contextmanager
def new_text_file(path: Path) -> Iterator[IO[str]]:
    """Yield a UTF-8 file that appears as `path` if the block succeeds.

    Missing folders are created, and deleted again if the block fails. Raises UserError if `path` exists.
    """
    refuse_existing(path)
    made: list[Path] = []
    complete = False
    with disk_errors(path, "choose another target"):
        try:
            made += [folder for folder in path.parents if not folder.exists()]
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
                yield file
            complete = True
        finally:
            if not complete:
                with suppress(OSError):
                    for folder in made:
                        folder.rmdir()


def write_new_lines(path: Path, lines: Iterable[str]) -> int:
    """Write lines to a new file and return their number. Raises as `new_text_file`."""
    written = 0
    with new_text_file(path) as file:
        for line in lines:
            file.write(line + "\n")
            written += 1
    return written
