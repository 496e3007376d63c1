"""What a check of data finds: problems, the rows they belong to, and their counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from qdsft.record import Record, RowError

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


@dataclass
class Row:
    """A row, or what stands in for it: all that was found about it."""

    source: str
    record: Record | None = None
    """None where none could be read."""
    question: str = ""
    """The user message, which decides on the split; so repeats are looked for here, too."""
    answer: str = ""
    problems: list[Problem] = field(default_factory=list)
    counts: bool = True
    """False for what concerns a file as a whole."""

    @property
    def usable(self) -> bool:
        """Whether it can be trained on."""
        return not any(problem.level == "error" for problem in self.problems)

    def refuse(self, error: RowError) -> None:
        """Add an error."""
        self.problems.append(Problem("error", error.kind, error.source, error.message))

    def warn(self, found: tuple[str, str] | None) -> None:
        """Add a warning, given as (kind, message)."""
        if found is not None:
            self.problems.append(Problem("warning", found[0], self.source, found[1]))


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
        if row.counts:
            self.total += 1
            self.unusable += not row.usable
            self.warned += row.usable and bool(row.problems)
        self.counts.update((problem.level, problem.kind) for problem in row.problems)
        return row.problems

    def failed(self, strict: bool) -> bool:
        """Whether there are errors, or, if strict, warnings."""
        return any(level == "error" or strict for level, _ in self.counts)
