"""Read the fenced blocks and commands of the documentation pages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from helpers.paths import ROOT

READMES = [ROOT / "README.md", ROOT / "README.ko.md"]
PAGES = sorted([*READMES, ROOT / "CONTRIBUTING.md", *ROOT.glob("recipes/**/*.md"), *ROOT.glob("d*/*.md")])
OPENING = re.compile(r"^( *)```(\w*)$")
NOT_RUN = re.compile(r"^ *<!-- not run(?: \(([^)]+)\))?: (.+) -->$")
END_OF_INPUT = re.compile(r"<<'?(\w+)'?")


@dataclass(frozen=True)
class Command:
    """One shell command: a line, or several lines joined by a backslash or `<<`."""

    line: int
    text: str
    shown: str | None = None
    """Output shown in a transcript."""
    not_run: str | None = None
    """Reason for not running the command in a test."""


@dataclass(frozen=True)
class Fence:
    """A fenced block. `<!-- not run: REASON -->` above it applies to the whole block, and `not run (pip, git)` to
    the commands that begin with these words.
    """

    line: int
    language: str
    lines: tuple[str, ...]
    beginnings: tuple[str, ...] = ()
    reason: str | None = None

    @property
    def text(self) -> str:
        return "".join(line + "\n" for line in self.lines)

    def commands(self) -> list[Command]:
        """Return the commands of a shell block or a transcript (`$ command`, then its output), without comments."""
        if self.language in {"bash", "sh"}:
            found = _join(self.line + 1, self.lines)
        elif self.language == "python":  # a shell gives it to the interpreter
            found = [Command(self.line, f"python - <<'END'\n{self.text}END")]
        elif self.language == "text" and any(line.startswith("$ ") for line in self.lines):
            found = _transcript(self.line + 1, self.lines)
        else:
            return []
        return [Command(one.line, one.text, one.shown, self._reason(one.text)) for one in found]

    def _reason(self, command: str) -> str | None:
        return self.reason if not self.beginnings or command.startswith(self.beginnings) else None


def fences(page: Path) -> list[Fence]:
    """Return all fenced blocks of a page. Indentation is removed."""
    found, lines = [], page.read_text(encoding="utf-8").splitlines()
    opening: re.Match[str] | None = None
    start, marker = 0, None
    for number, line in enumerate(lines, start=1):
        if opening is not None:
            if line.strip() == "```":
                inside = tuple(one.removeprefix(opening[1]) for one in lines[start : number - 1])
                beginnings = tuple(re.split(", ", marker[1])) if marker and marker[1] else ()
                found.append(Fence(start, opening[2], inside, beginnings, marker[2] if marker else None))
                opening, marker = None, None
        elif opened := OPENING.match(line):
            opening, start = opened, number
        elif line.strip():
            marker = NOT_RUN.match(line)
    return found


def _join(first: int, lines: tuple[str, ...]) -> list[Command]:
    found: list[Command] = []
    waiting: list[str] = []
    start, ends_with = first, ""
    for number, line in enumerate(lines, start=first):
        if not waiting:
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            start = number
        waiting.append(line)
        if ends_with:
            if line.strip() != ends_with:
                continue
        elif opened := END_OF_INPUT.search(line):
            ends_with = opened[1]
            continue
        elif line.endswith("\\"):
            continue
        found.append(Command(start, "\n".join(waiting)))
        waiting, ends_with = [], ""
    assert not waiting, f"line {start}: the block ends within a command"
    return found


def _transcript(first: int, lines: tuple[str, ...]) -> list[Command]:
    found: list[Command] = []
    for number, line in enumerate(lines, start=first):
        if line.startswith("$ "):
            found.append(Command(number, line[2:], ""))
        else:
            last = found.pop()
            found.append(Command(last.line, last.text, f"{last.shown}{line}\n"))
    return found
