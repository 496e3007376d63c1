"""One hostile case, and ways to damage a file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Damage = Callable[[Path], None]
"""Changes files of a workspace, given its folder."""
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 13476839424\n"
WRONG: tuple[Any, ...] = (None, True, -1, 1e300, "\x1b]0;x\x07", [], {}, [None], {"a": [1]})
"""Values of other types and ranges."""


@dataclass(frozen=True)
class Case:
    """A command in a damaged workspace."""

    kind: str
    name: str
    arguments: tuple[str, ...]
    damage: Damage
    mentions: tuple[str, ...] = ()
    """The error names at least one of these: the file, the key or the option."""
    status: int | None = 1
    """The exit status; None if 0 is right, too."""
    prints: str = ""
    """Part of what is printed."""


def untouched(_: Path) -> None:
    """Change nothing: the argument is what is wrong."""


def replaced(name: str, content: bytes | str) -> Damage:
    """Write other content to a file, as a new file: the others of its hard links stay."""

    def damage(folder: Path) -> None:
        path = folder / name
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)

    return damage


def edited(name: str, change: Callable[[bytes], bytes]) -> Damage:
    """Replace a file by `change` of its content."""
    return lambda folder: replaced(name, change((folder / name).read_bytes()))(folder)


def removed(name: str) -> Damage:
    """Delete a file or folder."""

    def damage(folder: Path) -> None:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return damage


def with_value(name: str, keys: tuple[str | int, ...], value: Any) -> Damage:
    """Set a value of a JSON file."""

    def change(content: bytes) -> bytes:
        whole = json.loads(content)
        part = whole
        for key in keys[:-1]:
            part = part[key]
        part[keys[-1]] = value
        return json.dumps(whole).encode("utf-8")

    return edited(name, change)


def without(name: str, keys: tuple[str, ...]) -> Damage:
    """Delete a key of a JSON file."""

    def change(content: bytes) -> bytes:
        whole = json.loads(content)
        part = whole
        for key in keys[:-1]:
            part = part[key]
        del part[keys[-1]]
        return json.dumps(whole).encode("utf-8")

    return edited(name, change)


def together(*damages: Damage) -> Damage:
    """Damage several files."""

    def damage(folder: Path) -> None:
        for one in damages:
            one(folder)

    return damage


def _folder_instead(name: str) -> Damage:
    return together(removed(name), lambda folder: (folder / name).mkdir())


def spoiled(name: str) -> dict[str, Damage]:
    """Return the ways in which any file is damaged, by name."""
    return {
        "missing": removed(name),
        "empty": replaced(name, b""),
        "cut": edited(name, lambda content: content[: len(content) // 2]),
        "cut by one byte": edited(name, lambda content: content.rstrip()[:-1]),
        "binary": replaced(name, bytes(range(256)) * 8),
        "zeros": edited(name, lambda content: bytes(len(content))),
        "an LFS pointer": replaced(name, LFS),
        "UTF-16": replaced(name, '{"서울": 1}'.encode("utf-16")),
        "CP949": replaced(name, '{"서울": 1}'.encode("cp949")),
        "a folder": _folder_instead(name),
        "a loop of links": together(removed(name), lambda folder: (folder / name).symlink_to(Path(name).name)),
    }


def spoiled_json(name: str) -> dict[str, Damage]:
    """Return `spoiled`, and JSON that is not the expected object."""
    texts = {"null": "null", "a number": "7", "a list": "[]", "a text": '"x"', "no keys": "{}", "NaN": "NaN"}
    deep = replaced(name, "[" * 100_000)
    return {**spoiled(name), **{what: replaced(name, text) for what, text in texts.items()}, "nested": deep}
