"""What a check of data finds: problems, the rows they belong to, and their counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from qdsft.data.record import Record, RowError

Level = Literal["error", "warning"]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong (error) or odd (warning) about one row or file."""

    level: Level
    kind: str
    """What problems of this sort are counted under."""
    source: str
    """`file:line`."""
    message: str
    """What it is, and the remedy; one line."""


@dataclass(slots=True)
class Row:
    """A row, or what stands in for it: all that was found about it."""

    source: str
    record: Record | None = None
    """None where none could be read."""
    question: str = ""
    """The normalised user message: it decides on the split, so repeats are looked for in it, too."""
    answer: str = ""
    """The normalised answer."""
    problems: list[Problem] = field(default_factory=list)
    usable: bool = True
    """Whether it can be trained on."""
    is_row: bool = True
    """False for what concerns a file as a whole."""

    def refuse(self, error: RowError) -> None:
        """Add an error."""
        self.usable = False
        self.problems.append(Problem("error", error.kind, error.source, error.message))

    def warn(self, kind: str, message: str | None) -> None:
        """Add a warning, unless the message is None."""
        if message is not None:
            self.problems.append(Problem("warning", kind, self.source, message))


@dataclass
class Tally:
    """Counts of a check, complete once its problems have all been taken."""

    total: int = 0
    unusable: int = 0
    """Rows with an error."""
    warned: int = 0
    """Usable rows with a warning."""
    counts: Counter[tuple[Level, str]] = field(default_factory=Counter)
    """(level, kind) -> how many."""
    notes: list[str] = field(default_factory=list)
    """What was not checked, and how; one line each."""

    @property
    def clean(self) -> int:
        """Rows with neither error nor warning."""
        return self.total - self.unusable - self.warned

    def add(self, row: Row) -> Sequence[Problem]:
        """Count one row; returns its problems."""
        self.total += row.is_row
        if not row.problems:
            return ()
        if row.is_row:
            self.unusable += not row.usable
            self.warned += row.usable
        self.counts.update((problem.level, problem.kind) for problem in row.problems)
        return row.problems

    def failed(self, strict: bool) -> bool:
        """Whether there are errors, or, if strict, warnings."""
        return any(level == "error" or strict for level, _ in self.counts)
