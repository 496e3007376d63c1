"""A question decomposition: ordered sub-questions, `#n` references and the graph they make.

Only this module renders a decomposition to the text that a model is trained on, and parses such text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

REFERENCE = re.compile(r"#(\d+)")
_NUMBERED = re.compile(r"\s*(\d+)\.(?:\s+(.*))?")
_LINE_END = re.compile("[\r\n]+")
"""What ends a step. str.splitlines() would also divide a step at U+2028, VT, NEL and others."""
_OWN_NUMBER = re.compile(
    r"\s*(?:[(\[（]?\s*(?:(?:step|(?:sub-?)?question|q|단계|(?:하위\s*)?질문)\s*)?(\d{1,3})\s*(?:단계)?\s*[.．):：\]）](?!\d)"
    r"|([\u2460-\u249b]))\s*",
    re.IGNORECASE,
)
"""The number that a step begins with in the data of people who number their steps; the second group is ①, ⑴ or ⒈."""


@dataclass(frozen=True)
class Decomposition:
    """Sub-questions in the order in which they are answered.

    Steps are numbered from 1; `#n` inside a step is the answer of step n. `format_problems`
    names the lines that `parse` could not read as a numbered list; it is empty for steps that were given as a list.
    """

    steps: tuple[str, ...]
    format_problems: tuple[str, ...] = ()

    def render(self) -> str:
        """Return the training target: the numbered steps."""
        return numbered(self.steps)

    @classmethod
    def parse(cls, text: str) -> Decomposition:
        """Read the text of `render` or of a model.

        Never raises: lines that are not numbered 1, 2, 3, ... in order are kept as steps, so that
        no text is lost, and named in `format_problems`.
        """
        steps: list[str] = []
        problems: list[str] = []
        for line in filter(str.strip, _LINE_END.split(text)):
            match = _NUMBERED.fullmatch(line)
            if match is None:
                problems.append(f"line {line.strip()[:40]!r} is not numbered")
            elif reference_number(match[1]) != len(steps) + 1:
                problems.append(f"step {match[1][:10]} stands where step {len(steps) + 1} belongs")
            steps.append((match[2] or "") if match else line.strip())
        return cls(tuple(step.strip() for step in steps), tuple(problems))

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """The reference graph: (i, j) where step j refers to the answer of step i, sorted, each once."""
        found = {
            (reference_number(reference), number)
            for number, step in enumerate(self.steps, start=1)
            if "#" in step
            for reference in REFERENCE.findall(step)
        }
        return tuple(sorted(found))

    def faults(self) -> Iterator[tuple[str, str]]:
        """Yield (kind, description) of every fault that makes this decomposition unusable."""
        yield from (("not a numbered list", problem) for problem in self.format_problems)
        if not self.steps:
            yield "no steps", "there are no steps"
        for number, step in enumerate(self.steps, start=1):
            if not step.strip():
                yield "empty step", f"step {number} is empty"
            if _LINE_END.search(step):
                yield "line break", f"step {number} has a line break"
        for source, target in self.edges:
            if source == target:
                yield "self reference", f"step {target} refers to itself (#{source})"
            elif source < 1 or source > len(self.steps):
                yield "dangling reference", f"step {target} refers to #{source}, but there are {len(self.steps)} steps"
            elif source > target:
                yield "forward reference", f"step {target} refers forward to #{source}"

    def problems(self) -> tuple[str, ...]:
        """Return the descriptions of all `faults`; empty if there are none."""
        return tuple(description for _, description in self.faults())

    @property
    def is_valid(self) -> bool:
        """True if there are no `faults`."""
        return not self.problems()


def without_numbers(steps: Sequence[str]) -> tuple[str, ...] | None:
    """Return steps without the numbers 1, 2, 3, ... (or 0, 1, 2, ...) that all of them begin with; else None.

    Recognises `1.`, `1)`, `(1)`, `[1]`, `1:`, `Step 1:`, `Q1.`, `1단계:`, `질문 1.` and `①`, in full width as well.
    """
    found: list[str] = []
    numbers: list[float] = []
    for step in steps:
        match = _OWN_NUMBER.match(step)
        if match is None:
            return None
        numbers.append(int(match[1]) if match[1] else unicodedata.numeric(match[2]))
        found.append(step[match.end() :])
    if numbers[:1] not in ([0], [1]) or numbers != [numbers[0] + i for i in range(len(numbers))]:
        return None
    if len(steps) == 1 and not steps[0].removesuffix(found[0])[-1:].isspace():
        return None  # a name, such as 1.FC Nürnberg
    return tuple(found) or None


def numbered(steps: Iterable[str]) -> str:
    """Return one numbered step per line, without a final newline."""
    return "\n".join([f"{number}. {step}" for number, step in enumerate(steps, start=1)])


def reference_number(digits: str) -> int:
    """Return the number, or 10**9 for a longer one: models write thousands of digits, which `int` refuses."""
    return int(digits) if len(digits) < 10 else 10**9
