"""A question decomposition: ordered sub-questions, `#n` references and the graph they make.

Only this module renders a decomposition to the text that a model is trained on, and parses such text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

REFERENCE = re.compile(r"#(\d+)")
_NUMBERED = re.compile(r"\s*(\d+)\.(?:\s+(.*))?")


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
        for line in filter(str.strip, text.splitlines()):
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
            if not step.isprintable() and step.splitlines() not in ([], [step]):  # no line break is printable
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


def numbered(steps: Iterable[str]) -> str:
    """Return one numbered step per line, without a final newline."""
    return "\n".join([f"{number}. {step}" for number, step in enumerate(steps, start=1)])


def reference_number(digits: str) -> int:
    """Return the number, or 10**9 for a longer one: models write thousands of digits, which `int` refuses."""
    return int(digits) if len(digits) < 10 else 10**9
