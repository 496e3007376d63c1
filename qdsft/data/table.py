"""Find question and steps in a table as people have them: one column a step, Korean headers, nameless columns."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_QUESTION, _STEPS = "question", "sub_questions"
_NAMES = {"질문": _QUESTION, "question": _QUESTION, "하위질문": _STEPS, "subquestions": _STEPS}
_STEP = re.compile(r"(?:subquestions?|steps?|하위질문|단계)([0-9]{1,4})")
_BETWEEN = re.compile(r"[\s_.()\[\]-]+")


class HeaderError(ValueError):
    """A header that cannot be used; the message says why."""


@dataclass(frozen=True)
class Columns:
    """The columns of a table, and which of them give `question` and `sub_questions`."""

    names: tuple[str, ...]
    given: dict[str, str]
    """`question` or `sub_questions` -> the column with another name that holds it."""
    steps: dict[int, str]
    """Number from 1 -> the column of that step; empty if one column holds all steps."""

    @classmethod
    def of(cls, names: Sequence[str]) -> Columns:
        """Read a header. Raises HeaderError for columns that cannot be told apart."""
        given: dict[str, str] = {}
        steps: dict[int, str] = {}
        seen: set[str] = set()
        for name in filter(None, names):
            if name in seen:
                raise HeaderError(f"two columns have one name, {name[:40]!r}; rename one of them")
            seen.add(name)
            plain = _BETWEEN.sub("", unicodedata.normalize("NFKC", name[:100]).casefold())
            if meaning := _NAMES.get(plain):
                given.setdefault(meaning, name)
            elif found := _STEP.fullmatch(plain):
                number = int(found[1])
                if number in steps:
                    raise HeaderError(f"the columns {steps[number]!r} and {name!r} both hold step {number}; remove one")
                steps[number] = name
        return cls(
            tuple(names),
            {meaning: name for meaning, name in given.items() if meaning not in seen},
            {} if _STEPS in seen or _STEPS in given or 0 in steps else steps,
        )

    def fill(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return a row with `question` and `sub_questions` beside its own columns, if the table has them.

        Empty cells after the last step are left out; one before it stays, as an empty step.
        """
        for meaning, name in self.given.items():
            row[meaning] = row[name]
        if self.steps:
            cells = [row.get(self.steps.get(number, ""), "") for number in range(1, max(self.steps) + 1)]
            while cells and _is_empty(cells[-1]):
                cells.pop()
            row[_STEPS] = ["" if cell is None else cell for cell in cells]
        return row

    def fit(self, cells: list[str]) -> list[str] | None:
        """Return as many cells as there are columns, or None if that takes more than empty cells at the end."""
        count = len(self.names)
        if any(cell.strip() for cell in cells[count:]):
            return None
        missing = self.names[len(cells) :]
        if any(name and name not in self.steps.values() for name in missing):
            return None
        return [*cells[:count], *[""] * len(missing)]

    def nameless(self, cells: Sequence[str]) -> str | None:
        """Return what is wrong with a row that has text in a column without a name; None if nothing."""
        for index, (name, cell) in enumerate(zip(self.names, cells, strict=True)):
            if not name and cell.strip():
                message = f"column {_letter(index)} has the text {cell.strip()[:40]!r} but no name in the header"
                return f"{message}; name it (one column a step: step 1, step 2, ...) or empty it"
        return None


def _is_empty(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and not cell.strip())


def _letter(index: int) -> str:
    """Return the name of a column in a spreadsheet: A, ..., Z, AA, ..."""
    letters = ""
    while index >= 0:
        letters, index = chr(ord("A") + index % 26) + letters, index // 26 - 1
    return letters
