"""The run directory that training.output_dir names: expanded, and refused before anything is made."""

from __future__ import annotations

import os
import re
from pathlib import Path

LONGEST_NAME = 200
"""Bytes of a folder's name: file systems take 255, and locks and temporary folders have a longer name."""
LONGEST_PATH = 3000
"""Bytes of the whole path; Linux takes 4096, with the files inside."""


def expanded(text: str) -> Path:
    """Return a path with `~` and `${VAR}` replaced as a shell does."""
    return Path(os.path.expandvars(text)).expanduser()


def folder_problem(text: str) -> str | None:
    """Return why a run directory cannot be at the path `text`, with the remedy; None if it can."""
    if not text.strip():
        return "is blank; name a folder, such as outputs/my-run"
    if any(ord(letter) < 32 or letter == "\x7f" for letter in text):
        return f"{text!r} has a line break or another control character; remove it"
    if unset := re.search(r"\$(\w+|\{[^}]*\})", os.path.expandvars(text)):
        return f"{text}: the environment variable {unset[0]} is not set; set it, or write the folder"
    try:
        path = expanded(text)
    except RuntimeError:  # ~user without such a user
        return f"{text}: there is no such user; write the folder"
    longest = max((len(os.fsencode(part)) for part in path.parts), default=0)
    if longest > LONGEST_NAME or len(os.fsencode(path)) > LONGEST_PATH:
        return f"{text[:40]}...: a name of more than {LONGEST_NAME} bytes, or a path of over {LONGEST_PATH}; shorten it"
    here = Path(os.path.abspath(path))
    if here in {Path.cwd(), *Path.cwd().parents, Path.home()} or path.name == "..":
        return f"{text} is a folder that holds other things; name a folder for this run alone, such as outputs/my-run"
    return None
