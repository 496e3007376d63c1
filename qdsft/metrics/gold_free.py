"""Detect faults of a decomposition without a gold answer: 1.0 if it has the fault, else 0.0."""

from __future__ import annotations

from collections.abc import Sequence

from qdsft.data.decomposition import Decomposition
from qdsft.data.text import normalise


def has_fault(decomposition: Decomposition, kind: str) -> float:
    """Return 1.0 if `Decomposition.faults` reports this kind."""
    return float(any(found == kind for found, _ in decomposition.faults()))


def repeated_step(steps: Sequence[str]) -> float:
    """Return 1.0 if two steps are equal, regardless of case, width, spacing and Unicode composition.

    Empty steps do not count as repeated.
    """
    texts = [step for step in map(normalise, steps) if step]
    return float(len(set(texts)) < len(texts))


def copied_question(question: str, steps: Sequence[str]) -> float:
    """Return 1.0 if a step equals the question, regardless of case, width, spacing and Unicode composition."""
    return float(normalise(question) in [text for text in map(normalise, steps) if text])


def stays_one_step(gold: Sequence[str], steps: Sequence[str]) -> float | None:
    """Return 1.0 if a question of one gold step has one step, else 0.0; None for other questions."""
    return float(len(steps) == 1) if len(gold) == 1 else None
