"""The results of a data check: problems, the rows they belong to, and their counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from qdsft.data.record import Record, RowError

Level = Literal["error", "warning"]


@dataclass(frozen=True)
class Problem:
    """An error or a warning about one row or file."""

    level: Level
    kind: str
    """The name that such problems are counted under."""
    source: str
    """`file:line`."""
    message: str
    """The problem and the remedy, in one line."""


@dataclass(slots=True)
class CheckedRow:
    """A row, or the fault in its place, with all its problems."""

    source: str
    record: Record | None = None
    """None if the row could not be read."""
    question: str = ""
    """The normalised user message: it decides the split, so repeats are searched in it too."""
    answer: str = ""
    """The normalised answer."""
    problems: list[Problem] = field(default_factory=list)
    usable: bool = True
    """Whether it can be trained on."""
    is_row: bool = True
    """False for a problem of a whole file."""

    @property
    def lacks_column(self) -> bool:
        """Whether the row is of a table without a column that the task needs."""
        tabular = self.record is not None and self.record.tabular
        return tabular and any(problem.kind == "column missing" for problem in self.problems)

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
    """Counts of a check, complete after its last problem."""

    total: int = 0
    unusable: int = 0
    """Rows with an error."""
    warned: int = 0
    """Usable rows with a warning."""
    counts: Counter[tuple[Level, str]] = field(default_factory=Counter)
    """(level, kind) -> number of problems."""
    notes: list[str] = field(default_factory=list)
    """Remarks on the check, such as what was not checked; one line each."""

    @property
    def clean(self) -> int:
        """Rows with neither error nor warning."""
        return self.total - self.unusable - self.warned

    def add(self, row: CheckedRow) -> Sequence[Problem]:
        """Count one row and return its problems."""
        self.total += row.is_row
        if not row.problems:
            return ()
        if row.is_row:
            self.unusable += not row.usable
            self.warned += row.usable
        self.counts.update((problem.level, problem.kind) for problem in row.problems)
        return row.problems

    def failed(self, strict: bool) -> bool:
        """Return whether there are errors, or, if strict, warnings."""
        return any(level == "error" or strict for level, _ in self.counts)
