"""Faults of a decomposition that are seen without a gold answer, each as a score of its own: 1.0 if it is there."""

from __future__ import annotations

from qdsft.data.decomposition import Decomposition
from qdsft.data.text import normalise

FAULTS = {
    "dangling_reference": "dangling reference",
    "forward_reference": "forward reference",
    "self_reference": "self reference",
    "empty_step": "empty step",
}
"""Metric -> kind of `Decomposition.faults`."""


def gold_free(question: str, decomposition: Decomposition) -> dict[str, float]:
    """Six faults, 1.0 where there is one and 0.0 where not; the mean is the share of rows that have it.

    `repeated_step`: two steps, and `copied_question`: a step and the question, are the same but for case, width,
    spacing and Unicode composition. Steps that are empty do not repeat one another.
    """
    kinds = {kind for kind, _ in decomposition.faults()}
    steps = [step for step in map(normalise, decomposition.steps) if step]
    return {
        **{name: float(kind in kinds) for name, kind in FAULTS.items()},
        "repeated_step": float(len(set(steps)) < len(steps)),
        "copied_question": float(normalise(question) in steps),
    }
