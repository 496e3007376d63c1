"""Measure how far a merged model agrees with the adapter as it was trained: logits, answers and scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch

from qdsft.data.examples import Example
from qdsft.data.prompt import Message
from qdsft.inference.loaded_run import LoadedRun
from qdsft.inference.merged_adapter import answer_logits, answered
from qdsft.metrics.catalog import shown_in
from qdsft.metrics.scores import score
from qdsft.metrics.summary import means
from qdsft.runs.certificate import Agreement, AnswerAgreement, LogitAgreement, ScoreChange, Thresholds

LOGIT_PROMPTS, LOGIT_TOKENS = 8, 32
"""Prompts, and tokens of each answer, whose logits are compared. All these logits are in memory twice."""

MEAN_KL = {torch.float32: 1e-6, torch.float16: 1e-4, torch.bfloat16: 1e-3}
"""Highest mean KL divergence, nats per token, by the coarser dtype of the two models. docs/MERGING.md has the reasons:
rounding gave 0, 7e-8 and 4e-6 for a tiny model, 3e-12 (float32) and 4e-4 (bfloat16) for one of 270 M weights, and 4e-3
without the adapter of one of its 18 layers."""
IDENTICAL = {torch.float32: 0.99, torch.float16: 0.9, torch.bfloat16: 0.8}
"""Lowest share of identical greedy answers: one token between two nearly equal ones changes an answer of fifty."""
SCORE_DROP = 0.02
"""Largest drop of exact match or SARI: two trainings with different seeds differ by as much."""


@dataclass(frozen=True)
class Observed:
    """A model's answers to the questions that are compared."""

    texts: tuple[str, ...]
    logits: list[torch.Tensor]
    scores: dict[str, float]
    """Means over the questions with gold answers; empty if there are none."""


@dataclass(frozen=True)
class Questions:
    """Held-out questions, or the golden prompts of a run without them."""

    conversations: list[Sequence[Message]]
    examples: list[Example]
    """The held-out rows with their gold answers."""

    def sequences(self, run: LoadedRun) -> list[tuple[list[int], int]]:
        """Return the prompt and answer ids whose logits are compared, as `merged_adapter.answered` does."""
        return answered(run, run.encode(self.conversations[:LOGIT_PROMPTS]), LOGIT_TOKENS)

    def observe(self, run: LoadedRun, sequences: list[tuple[list[int], int]], batch_size: int) -> Observed:
        """Decode and score all questions; raises UserError as `LoadedRun.stream` does."""
        answers = dict(run.stream(self.conversations, batch_size=batch_size, progress=True))
        texts = tuple(answers[i].text for i in range(len(self.conversations)))
        rows = [
            score(run.task.predict(example, answers[i].text, answers[i].stopped))
            for i, example in enumerate(self.examples)
        ]
        known = means(rows) if rows else {}
        scores = {metric.key: known[metric.key] for metric in shown_in("merge") if metric.key in known}
        return Observed(texts, answer_logits(run.model, sequences), scores)


def compare_with_adapter(trained: Observed, merged: Observed) -> Agreement:
    """Return how far the merged model agrees with the adapter as it was trained."""
    divergence, moved, greedy = [], 0.0, []
    for old, new in zip(trained.logits, merged.logits, strict=True):
        logs = torch.log_softmax(old.double(), -1), torch.log_softmax(new.double(), -1)
        divergence += ((logs[0] - logs[1]) * logs[0].exp()).sum(-1).tolist()
        moved = max(moved, float((new - old).abs().max()))
        greedy += (new.argmax(-1) == old.argmax(-1)).tolist()
    same = [before == after for before, after in zip(trained.texts, merged.texts, strict=True)]
    return Agreement(
        logits=LogitAgreement(
            positions=len(greedy),
            largest_difference=round(moved, 7),
            mean_kl=round(max(fmean(divergence), 0.0), 12),
            same_greedy_token=round(fmean(greedy), 4),
        ),
        answers=AnswerAgreement(compared=len(same), identical=round(fmean(same), 4)),
        scores={
            name: ScoreChange(
                trained=round(value, 4),
                merged=round(merged.scores[name], 4),
                difference=round(merged.scores[name] - value, 4),
            )
            for name, value in trained.scores.items()
        },
    )


def limits(dtypes: Sequence[torch.dtype]) -> Thresholds:
    """Return the thresholds for models in these dtypes."""
    coarsest = max(dtypes, key=lambda dtype: MEAN_KL.get(dtype, 0.0))
    return Thresholds(mean_kl=MEAN_KL[coarsest], identical_answers=IDENTICAL[coarsest], score_drop=SCORE_DROP)


def failures(found: Agreement, allowed: Thresholds) -> list[str]:
    """Return the thresholds that are not reached, in words."""
    failed = []
    if not found.logits.mean_kl <= allowed.mean_kl:  # also for NaN
        failed.append(f"mean KL {found.logits.mean_kl:.2g} is more than {allowed.mean_kl:g}")
    if found.answers.identical < allowed.identical_answers:
        failed.append(f"{found.answers.identical:.0%} equal answers are less than {allowed.identical_answers:.0%}")
    for metric in shown_in("merge limit"):
        change = found.scores.get(metric.key)
        if change and change.difference < -allowed.score_drop:
            failed.append(f"{metric.key} falls by {-change.difference:.3f}, more than {allowed.score_drop:g}")
    return failed
