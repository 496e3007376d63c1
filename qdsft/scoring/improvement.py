"""Choose the best of several sampled decompositions of a question, and say whether training on them helped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from qdsft.data.decomposition import Decomposition
from qdsft.data.prediction import PredictedSteps
from qdsft.data.record import Record
from qdsft.data.validation import faults
from qdsft.metrics import gold_free
from qdsft.metrics.catalog import BY_KEY
from qdsft.metrics.retrieval_scores import key
from qdsft.metrics.scores import Scores
from qdsft.scoring.compare import Difference
from qdsft.scoring.execution_scorer import EXECUTION
from qdsft.scoring.retrieval import STEP_ANSWERS

Keep = Literal["better", "equal"]
"""When a sample replaces the steps of a row. better: if it scores higher. equal: also if it scores as high and has no
more steps."""
BY_RETRIEVAL = (key("all_found"), key("recall"))
BY_EXECUTION = (EXECUTION,)
OF_THE_STEPS = (STEP_ANSWERS, "operations")
"""Columns about the steps of a row, which do not fit other steps."""
PROVENANCE = "provenance"
"""Column that says where the steps of a row come from, if a model wrote them."""


@dataclass(frozen=True)
class Goal:
    """What samples are compared by. Every metric is at most 1, and higher is better."""

    score: Callable[[PredictedSteps], Scores]
    metrics: tuple[str, ...]
    """The first decides, the next one only between equal values."""
    keep: Keep

    def of(self, row: Mapping[str, Any], steps: Sequence[str]) -> tuple[float, ...] | None:
        """Return the scores of these steps for a row; None for a row that cannot be scored."""
        own = tuple(row["sub_questions"])
        scores = self.score(PredictedSteps(row["question"], own, Decomposition(tuple(steps)), None, columns=row))
        found = [scores[name] for name in self.metrics]
        return None if None in found else tuple(value for value in found if value is not None)

    def can_be_improved(self, own: tuple[float, ...] | None) -> bool:
        """Return whether a sample could replace steps of these scores."""
        return own is not None and (self.keep == "equal" or min(own) < 1)


@dataclass(frozen=True)
class Choice:
    """The steps that a row is trained on."""

    steps: tuple[str, ...]
    sample: int | None
    """Number of the chosen sample from 0; None if the row keeps its steps."""
    scores: tuple[float, ...] | None
    own_scores: tuple[float, ...] | None
    """Scores of the row's steps before; None for a row that cannot be scored."""


def usable_steps(question: str, text: str, stopped: bool) -> tuple[str, ...] | None:
    """Return the steps of a sample; None if they must not be trained on.

    The sample was cut off, is no valid decomposition, repeats a step, or has the question itself as a step.
    """
    found = Decomposition.parse(text)
    row = Record({"question": question, "sub_questions": list(found.steps)}, "")
    if not stopped or not found.is_valid or any(faults(row)):
        return None
    if gold_free.repeated_step(found.steps) or gold_free.copied_question(question, found.steps):
        return None
    return found.steps


def choose(goal: Goal, row: Mapping[str, Any], samples: Sequence[tuple[str, ...] | None]) -> Choice:
    """Return the best steps for a row: of its samples, as `usable_steps` returns them, or its own.

    Of equally good samples the one with the fewest steps is taken, then the shortest text, then the first.
    """
    own_steps = tuple(row["sub_questions"])
    own = goal.of(row, own_steps)
    keeps = Choice(own_steps, None, own, own)
    different = {steps: number for number, steps in reversed(list(enumerate(samples))) if steps}
    if own is None or not goal.can_be_improved(own) or not different:
        return keeps
    scored = {steps: goal.of(row, steps) or () for steps in different}
    best = min(
        different,
        key=lambda steps: ([-value for value in scored[steps]], len(steps), sum(map(len, steps)), different[steps]),
    )
    is_better = scored[best] > own
    is_equal = scored[best] == own and len(best) <= len(own_steps)
    if best != own_steps and (is_better or (goal.keep == "equal" and is_equal)):
        return Choice(best, different[best], scored[best], own)
    return keeps


def improved_row(row: Mapping[str, Any], choice: Choice, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row with the chosen steps, and the column `provenance`. Columns about its old steps are left out."""
    kept = {name: value for name, value in row.items() if choice.sample is None or name not in OF_THE_STEPS}
    own = {"sample": choice.sample, "scores": choice.scores, "own_scores": choice.own_scores}
    return {**kept, "sub_questions": list(choice.steps), PROVENANCE: {**provenance, **own}}


def verdict(metric: str, found: Difference, rows: int) -> str:
    """Return a sentence that says whether the improved run is better: only if the interval is above 0."""
    low, high = found.interval
    name = BY_KEY[metric].name
    numbers = f"{found.first:.3f} to {found.second:.3f}, a difference of {found.difference:+.3f}"
    interval = f"95 % interval {low:+.3f} to {high:+.3f}, {rows} held-out rows"
    if low > 0:
        return f"It helped: {name} went from {numbers} ({interval})."
    reason = "the interval is not above 0" if high > 0 else "the improved run is not better"
    return f"It did not help: {name} went from {numbers} ({interval}); {reason}."
