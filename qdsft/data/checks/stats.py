"""Count what is in data files: steps, lengths, scripts and the shapes of the reference graphs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from qdsft.data.decomposition import Decomposition
from qdsft.data.record import Record, RowError
from qdsft.data.text import main_script
from qdsft.data.validation import faults

SHAPES = ("none", "chain", "parallel", "tree", "graph")
"""The values of `shape`."""


@dataclass
class Stats:
    """Counts over usable rows. Every field but `unusable` is value -> rows (step lengths: value -> steps)."""

    unusable: int = 0
    steps: Counter[int] = field(default_factory=Counter)
    """Steps per row."""
    question_length: Counter[int] = field(default_factory=Counter)
    """Characters."""
    step_length: Counter[int] = field(default_factory=Counter)
    """Characters."""
    scripts: Counter[str] = field(default_factory=Counter)
    """`main_script` of the question."""
    shapes: Counter[str] = field(default_factory=Counter)

    @property
    def rows(self) -> int:
        """Usable rows."""
        return self.steps.total()

    @property
    def with_references(self) -> int:
        """Rows in which a step uses another's answer."""
        return self.rows - self.shapes["none"]

    def to_json(self) -> dict[str, Any]:
        """Return all counts for JSON, lengths as `summary`."""
        return {
            "rows": self.rows,
            "unusable": self.unusable,
            "steps_per_row": {"histogram": {str(n): self.steps[n] for n in sorted(self.steps)}, **summary(self.steps)},
            "question_characters": summary(self.question_length),
            "step_characters": summary(self.step_length),
            "scripts": dict(self.scripts.most_common()),
            "shapes": {name: self.shapes[name] for name in SHAPES},
            "with_references": self.with_references,
        }


def count_rows(rows: Iterable[Record | RowError]) -> Stats:
    """Count rows. A row that training would refuse is counted as unusable."""
    stats = Stats()
    for item in rows:
        if isinstance(item, RowError) or any(True for _ in faults(item)):
            stats.unusable += 1
            continue
        question, steps = item.row["question"], item.row["sub_questions"]
        stats.steps[len(steps)] += 1
        stats.question_length[len(question)] += 1
        stats.step_length.update(map(len, steps))
        stats.scripts[main_script(question)] += 1
        stats.shapes[shape(Decomposition(tuple(steps)))] += 1
    return stats


def shape(decomposition: Decomposition) -> str:
    """Return the shape of the reference graph.

    none: no step uses another's answer; chain: each step uses the one before it and no other; parallel:
    only the last step uses answers, those of several others; tree: each answer is used at most once;
    graph: an answer is used more than once.
    """
    edges, last = decomposition.edges, len(decomposition.steps)
    if not edges:
        return "none"
    if edges == tuple((number, number + 1) for number in range(1, last)):
        return "chain"
    if len(edges) > 1 and all(target == last for _, target in edges):
        return "parallel"
    return "tree" if len({source for source, _ in edges}) == len(edges) else "graph"


def summary(values: Counter[int]) -> dict[str, int]:
    """Return min, median, p95 and max of counted values by nearest rank; empty for no values."""
    if not values:
        return {}
    return {"min": min(values), "median": _rank(values, 0.5), "p95": _rank(values, 0.95), "max": max(values)}


def _rank(values: Counter[int], share: float) -> int:
    needed, seen = share * values.total(), 0
    for value in sorted(values):
        seen += values[value]
        if seen >= needed:
            return value
    return max(values)
