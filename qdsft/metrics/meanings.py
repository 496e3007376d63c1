"""What the metrics of metrics.json are called and mean, for whoever reads a report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

LARGEST = 1e290
"""Numbers from here on are taken as damage: nothing that is measured is so large."""


@dataclass(frozen=True)
class Meaning:
    """One metric in words."""

    name: str
    phrase: str
    better: Literal["higher", "lower"] | None = "higher"
    """Which direction is the good one; None where neither is."""


METRICS = {
    "exact_match": Meaning(
        "exact match", "rows whose steps equal the gold steps; only upper and lower case may differ"
    ),
    "normalized_exact_match": Meaning(
        "normalized exact match", "exact match once wording that does not matter is evened out"
    ),
    "sari": Meaning("SARI", "words of the question kept, added and deleted as in the gold steps"),
    "structural_ged": Meaning(
        "structural GED", "edits that turn the predicted graph into the gold one, per node and edge", "lower"
    ),
    "ged": Meaning(
        "GED", "edits, of texts too, that turn the predicted graph into the gold one, per node and edge", "lower"
    ),
    "step_f1": Meaning("step F1", "gold steps that were found, and found steps that are gold"),
    "edge_f1": Meaning("edge F1", "gold references between steps that were found, and found ones that are gold"),
    "chrf": Meaning("chrF", "overlap of character n-grams with the gold steps"),
    "step_count_accuracy": Meaning("step count right", "rows with as many steps as the gold ones"),
    "valid": Meaning("valid", "answers that are a numbered list with usable references"),
    "stopped": Meaning("stopped by itself", "answers that the model ended, rather than the length limit"),
    "loss": Meaning("loss", "negative log-likelihood of the gold answer, nats per token", "lower"),
}
"""In reading order. All but `loss` are means over the rows."""

FAULTS = {
    "dangling_reference": Meaning("dangling reference", "a step refers to one that does not exist", "lower"),
    "forward_reference": Meaning("forward reference", "a step refers to a later one", "lower"),
    "self_reference": Meaning("self reference", "a step refers to itself", "lower"),
    "empty_step": Meaning("empty step", "a step has no text", "lower"),
    "repeated_step": Meaning("repeated step", "a step occurs twice", "lower"),
    "copied_question": Meaning("copied question", "a step is the question itself", "lower"),
}
"""Shares of rows with a fault that is seen without a gold answer."""

COSTS = {
    "samples": Meaning("rows", "held-out questions that were decoded", None),
    "seconds": Meaning("seconds", "time to decode them", None),
    "new_tokens": Meaning("tokens written", "by the model, in all", None),
    "new_tokens_per_second": Meaning("tokens per second", "written", None),
}

MEANINGS = {**METRICS, **FAULTS, **COSTS}
"""All of them, in reading order."""

RANKING = ("sari", "step_f1", "chrf", "exact_match")
"""The metrics that tell a bad answer from a good one, the finest first."""


def number_in(values: dict[str, Any], key: str) -> float | None:
    """The number under a key; None where there is none, or one that is not finite."""
    return _number(values.get(key))


def interval_in(values: dict[str, Any], key: str) -> tuple[float, float] | None:
    """The 95 % interval (low, high) of a metric in a model's dictionary of metrics.json, if there is one."""
    intervals = values.get("intervals")
    pair = intervals.get(key) if isinstance(intervals, dict) else None
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        return None
    low, high = map(_number, pair)
    return None if low is None or high is None else (low, high)


def groups_in(values: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    """Name -> metrics of the groups of a kind (language, steps, source); empty where there are none."""
    groups = values.get("groups")
    found = groups.get(kind) if isinstance(groups, dict) else None
    named = found.items() if isinstance(found, dict) else ()
    return {str(name): metrics for name, metrics in named if isinstance(metrics, dict)}


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and abs(value) < LARGEST else None  # not a number is not below it either


def shown(value: float | None, places: int = 3) -> str:
    """A value in a table: counts as they are, all else to so many decimal places."""
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{places}f}"


def direction(meaning: Meaning) -> str:
    """Which way is better, in words; empty where neither is."""
    return f"{meaning.better} is better" if meaning.better else ""
