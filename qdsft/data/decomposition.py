"""A question decomposition: ordered sub-questions, `#n` references and the graph they make.

The only place that renders a decomposition to the text a model is trained on, and the only place
that parses such text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

REFERENCE = re.compile(r"#(\d+)")
_NUMBERED = re.compile(r"\s*(\d+)\.(?:\s+(.*))?")


@dataclass(frozen=True)
class Decomposition:
    """Sub-questions in the order in which they are to be answered.

    Steps are numbered from 1; `#n` inside a step stands for the answer of step n. `format_problems`
    holds what `parse` could not read as a numbered list; it is empty for steps that came as a list.
    """

    steps: tuple[str, ...]
    format_problems: tuple[str, ...] = ()

    def render(self) -> str:
        """The training target, as `numbered` writes it."""
        return numbered(self.steps)

    @classmethod
    def parse(cls, text: str) -> Decomposition:
        """Read what `render` wrote, or what a model made of it.

        Never raises: lines that are not numbered 1, 2, 3, ... in order are kept as steps, so that
        nothing is lost, and named in `format_problems`.
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
        """(kind, description) of whatever makes this decomposition unusable, seen without a gold answer."""
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
        """The descriptions of all `faults`; empty if there are none."""
        return tuple(description for _, description in self.faults())

    @property
    def is_valid(self) -> bool:
        """Whether `problems` finds nothing."""
        return not self.problems()


def numbered(steps: Iterable[str]) -> str:
    """One numbered step a line, without a final newline."""
    return "\n".join([f"{number}. {step}" for number, step in enumerate(steps, start=1)])


def reference_number(digits: str) -> int:
    """The number, or 10**9 for a longer one: models write thousands of digits, which `int` refuses."""
    return int(digits) if len(digits) < 10 else 10**9
