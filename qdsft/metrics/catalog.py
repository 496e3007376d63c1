"""The list of metrics, from which scores, reports, cards, `qdsft runs`, comparisons and sweeps take theirs.

To add a metric, write its function and add one entry to METRICS; `kind`, `shown_in` and `rank` decide where it appears.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from qdsft.data.prediction import PredictedSteps, PredictedText
from qdsft.data.task import DecompositionTask, FreeTextTask
from qdsft.metrics import alignment, gold_free, retrieval_scores, text_overlap

Kind = Literal["score", "loss", "fault", "cost", "retrieval"]
Place = Literal["runs", "tiles", "groups", "examples", "merge", "merge limit"]


@dataclass(frozen=True)
class Metric:
    """One metric: its names, its meaning, how it is computed, and where it is shown."""

    key: str
    """Its name in metrics.json and predictions.jsonl."""
    name: str
    """Its name in tables and charts."""
    meaning: str
    better: Literal["higher", "lower"] | None = "higher"
    """The better direction; None if neither is better."""
    kind: Kind = "score"
    score_steps: Callable[[PredictedSteps], float | None] | None = None
    """Score one decomposition; None if the metric does not apply to them, or is not computed row by row."""
    score_text: Callable[[PredictedText], float | None] | None = None
    """Score one answer of free text; None if the metric does not apply to them."""
    not_for: tuple[str, ...] = ()
    """Languages of rows (see `qdsft.data.text.language`) for which the value is None."""
    option: str | None = None
    """The option of `qdsft evaluate` that computes it; None if it is always computed."""
    compared_to: str | None = None
    """Key of the metric of the same rows from which the mean difference is reported, with its interval."""
    fixed: bool = False
    """Whether the value does not depend on the prediction, so that systems can only differ by the evaluation."""
    shown_in: tuple[Place, ...] = ()
    """Where the metric appears. runs: the list of `qdsft runs`. tiles, groups, examples: parts of the report. merge:
    the certificate of a merge. merge limit: a merge fails if this metric drops too far."""
    rank: int | None = None
    """Position in RANKING, from 1; None leaves the metric out."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of the tasks whose answers it scores row by row."""
        named = {DecompositionTask.name: self.score_steps, FreeTextTask.name: self.score_text}
        return tuple(name for name, function in named.items() if function)

    @property
    def direction(self) -> str:
        """The better direction in words; empty if neither is better."""
        return f"{self.better} is better" if self.better else ""


def _retrieval(measure: str, depth: int, queries: str) -> Metric:
    """Return the metric of one measure, number of passages, and kind of query."""
    name = f"{measure.replace('_', ' ')}@{depth}, {retrieval_scores.QUERIES[queries]}"
    return Metric(
        retrieval_scores.key(measure, depth, queries),
        name,
        f"{retrieval_scores.MEASURES[measure]} among {depth}",
        kind="retrieval",
        option="--retrieval",
        compared_to=None if queries == "question" else retrieval_scores.key(measure, depth, "question"),
        fixed=queries in retrieval_scores.FIXED,
    )


def _fault(kind: str, meaning: str) -> Metric:
    """Return the metric of a kind of `Decomposition.faults`."""
    return Metric(
        kind.replace(" ", "_"),
        kind,
        meaning,
        "lower",
        "fault",
        score_steps=lambda row: gold_free.has_fault(row.answer, kind),
    )


METRICS = (
    Metric(
        "exact_match",
        "exact match",
        "rows whose steps equal the gold steps; only upper and lower case may differ",
        score_steps=lambda row: text_overlap.exact_match(row.answer.steps, row.gold),
        score_text=lambda row: text_overlap.same_words(row.answer, row.gold),
        shown_in=("runs", "tiles", "groups", "examples", "merge", "merge limit"),
        rank=4,
    ),
    Metric(
        "normalized_exact_match",
        "normalized exact match",
        "exact match once wording that does not matter is evened out",
        not_for=("ko",),
        option="--break-metrics",
    ),
    Metric(
        "sari",
        "SARI",
        "words of the question kept, added and deleted as in the gold steps",
        score_steps=lambda row: text_overlap.sari(row.question, row.answer.steps, row.gold),
        shown_in=("runs", "tiles", "groups", "examples", "merge", "merge limit"),
        rank=1,
    ),
    Metric(
        "structural_ged",
        "structural GED",
        "edits that turn the predicted graph into the gold one, per node and edge",
        "lower",
        shown_in=("examples",),
    ),
    Metric(
        "ged",
        "GED",
        "edits, of texts too, that turn the predicted graph into the gold one, per node and edge",
        "lower",
        not_for=("ko",),
        option="--break-metrics",
        shown_in=("examples",),
    ),
    Metric(
        "step_f1",
        "step F1",
        "gold steps that were found, and found steps that are gold",
        score_steps=lambda row: alignment.step_f1(row.answer.steps, row.gold, alignment.paired(row)),
        shown_in=("tiles", "groups", "examples"),
        rank=2,
    ),
    Metric(
        "edge_f1",
        "edge F1",
        "gold references between steps that were found, and found ones that are gold",
        score_steps=lambda row: alignment.edge_f1(row.answer.steps, row.gold, alignment.paired(row)),
        shown_in=("groups", "examples"),
    ),
    Metric(
        "chrf",
        "chrF",
        "overlap of character n-grams with the gold steps",
        score_steps=lambda row: text_overlap.chrf("\n".join(row.answer.steps), "\n".join(row.gold)),
        score_text=lambda row: text_overlap.chrf(row.answer, row.gold),
        shown_in=("runs", "tiles", "examples", "merge"),
        rank=3,
    ),
    Metric(
        "step_count_accuracy",
        "step count right",
        "rows with as many steps as the gold ones",
        score_steps=lambda row: text_overlap.step_count_accuracy(row.answer.steps, row.gold),
    ),
    Metric(
        "execution_accuracy",
        "execution accuracy",
        "synthetic questions whose steps lead to the right answer, however they are worded",
        option="--execute",
        shown_in=("runs", "tiles", "groups", "examples"),
    ),
    Metric(
        "restraint",
        "restraint",
        "questions of one gold step that stay one step",
        score_steps=lambda row: gold_free.stays_one_step(row.gold, row.answer.steps),
    ),
    Metric(
        "valid",
        "valid",
        "answers that are a numbered list with usable references",
        score_steps=lambda row: float(row.answer.is_valid),
        shown_in=("runs", "tiles", "groups", "merge"),
    ),
    Metric(
        "stopped",
        "stopped by itself",
        "answers that the model ended, rather than the length limit",
        score_steps=lambda row: None if row.stopped is None else float(row.stopped),
        score_text=lambda row: None if row.stopped is None else float(row.stopped),
        shown_in=("tiles", "merge"),
    ),
    *(
        _retrieval(measure, depth, queries)
        for measure in retrieval_scores.MEASURES
        for depth in retrieval_scores.DEPTHS
        for queries in retrieval_scores.QUERIES
    ),
    Metric("loss", "loss", "negative log-likelihood of the gold answer, nats per token", "lower", "loss"),
    _fault("dangling reference", "a step refers to one that does not exist"),
    _fault("forward reference", "a step refers to a later one"),
    _fault("self reference", "a step refers to itself"),
    _fault("empty step", "a step has no text"),
    Metric(
        "repeated_step",
        "repeated step",
        "a step occurs twice",
        "lower",
        "fault",
        score_steps=lambda row: gold_free.repeated_step(row.answer.steps),
    ),
    Metric(
        "copied_question",
        "copied question",
        "a step is the question itself",
        "lower",
        "fault",
        score_steps=lambda row: gold_free.copied_question(row.question, row.answer.steps),
    ),
    Metric("samples", "rows", "held-out questions that were decoded", None, "cost"),
    Metric("seconds", "seconds", "time to decode them", None, "cost"),
    Metric("new_tokens", "tokens written", "by the model, in all", None, "cost"),
    Metric("new_tokens_per_second", "tokens per second", "written", None, "cost"),
)
"""All metrics in reading order. Those of kind score, fault and retrieval are means over the rows that have a value."""

BY_KEY = {metric.key: metric for metric in METRICS}

RANKING = tuple(sorted((metric for metric in METRICS if metric.rank), key=lambda metric: metric.rank or 0))
"""Reports sort rows from bad to good by these, one after the other, and chart the first that is available."""


def of_kind(*kinds: Kind) -> tuple[Metric, ...]:
    """Return the metrics of some kinds, in reading order."""
    return tuple(metric for metric in METRICS if metric.kind in kinds)


def shown_in(place: Place) -> tuple[Metric, ...]:
    """Return the metrics that a place shows, in reading order."""
    return tuple(metric for metric in METRICS if place in metric.shown_in)
