"""Measure how far a merged model agrees with its adapter: in logits, answers and scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch

from qdsft.data.examples import Example
from qdsft.data.prompt import Message
from qdsft.inference.loaded_run import LoadedRun
from qdsft.inference.merged_adapter import answer_logits, answered
from qdsft.metrics.catalog import shown_in
from qdsft.metrics.scores import score
from qdsft.metrics.summary import means

LOGIT_PROMPTS, LOGIT_TOKENS = 8, 32
"""Prompts, and tokens of each answer, whose logits are compared: all of them are held in memory twice."""

MEAN_KL = {torch.float32: 1e-6, torch.float16: 1e-4, torch.bfloat16: 1e-3}
"""Most mean divergence, nats a token, by the coarser number format of the two models. On the trained tiny model of
docs/MERGING.md rounding alone gave 0, 7e-8 and 4e-6; large models round in more layers, and a card computes in the
format too, hence the room. Losing a part of an adapter gives 1e-2 and more."""
IDENTICAL = {torch.float32: 0.99, torch.float16: 0.9, torch.bfloat16: 0.8}
"""Least share of equal greedy answers: one token between two near equals changes an answer of fifty."""
SCORE_DROP = 0.02
"""Most that exact match or SARI may fall: what two trainings with different seeds differ by anyway."""


@dataclass(frozen=True)
class Observed:
    """What a model answered to the questions that are compared."""

    texts: tuple[str, ...]
    logits: list[torch.Tensor]
    scores: dict[str, float]
    """Means over the questions that have gold answers; empty without any."""


@dataclass(frozen=True)
class Questions:
    """Held-out questions, or the golden prompts of a run without them."""

    conversations: list[Sequence[Message]]
    examples: list[Example]
    """Their gold answers, where they have any."""

    def sequences(self, run: LoadedRun) -> list[tuple[list[int], int]]:
        """Prompt and answer ids whose logits are compared, as `merging.answered` gives them."""
        return answered(run, run.encode(self.conversations[:LOGIT_PROMPTS]), LOGIT_TOKENS)

    def observe(self, run: LoadedRun, sequences: list[tuple[list[int], int]], batch_size: int) -> Observed:
        """Decode and score all of them; raises UserError as `LoadedRun.stream` does."""
        answers = dict(run.stream(self.conversations, batch_size=batch_size, progress=True))
        texts = tuple(answers[i].text for i in range(len(self.conversations)))
        rows = [
            score(run.task.predict(example, answers[i].text, answers[i].stopped))
            for i, example in enumerate(self.examples)
        ]
        known = means(rows) if rows else {}
        scores = {metric.key: known[metric.key] for metric in shown_in("merge") if metric.key in known}
        return Observed(texts, answer_logits(run.model, sequences), scores)


def compare(trained: Observed, merged: Observed) -> dict[str, Any]:
    """Return the figures of the certificate: logits, answers, and scores as trained, merged and their difference."""
    divergence, moved, greedy = [], 0.0, []
    for old, new in zip(trained.logits, merged.logits, strict=True):
        logs = torch.log_softmax(old.double(), -1), torch.log_softmax(new.double(), -1)
        divergence += ((logs[0] - logs[1]) * logs[0].exp()).sum(-1).tolist()
        moved = max(moved, float((new - old).abs().max()))
        greedy += (new.argmax(-1) == old.argmax(-1)).tolist()
    same = [before == after for before, after in zip(trained.texts, merged.texts, strict=True)]
    return {
        "logits": {
            "positions": len(greedy),
            "largest_difference": round(moved, 7),
            "mean_kl": round(max(fmean(divergence), 0.0), 12),
            "same_greedy_token": round(fmean(greedy), 4),
        },
        "answers": {"compared": len(same), "identical": round(fmean(same), 4)},
        "scores": {
            name: {
                "trained": round(value, 4),
                "merged": round(merged.scores[name], 4),
                "difference": round(merged.scores[name] - value, 4),
            }
            for name, value in trained.scores.items()
        },
    }


def limits(formats: Sequence[torch.dtype]) -> dict[str, float]:
    """Return the thresholds for models in these number formats."""
    coarsest = max(formats, key=lambda dtype: MEAN_KL.get(dtype, 0.0))
    return {"mean_kl": MEAN_KL[coarsest], "identical_answers": IDENTICAL[coarsest], "score_drop": SCORE_DROP}


def failures(figures: dict[str, Any], allowed: dict[str, float]) -> list[str]:
    """Return the figures of `compare` that miss a threshold, in words."""
    found = []
    if not figures["logits"]["mean_kl"] <= allowed["mean_kl"]:
        found.append(f"mean KL {figures['logits']['mean_kl']:.2g} is more than {allowed['mean_kl']:g}")
    if figures["answers"]["identical"] < allowed["identical_answers"]:
        found.append(
            f"{figures['answers']['identical']:.0%} equal answers are less than {allowed['identical_answers']:.0%}"
        )
    for metric in shown_in("merge limit"):
        score = figures["scores"].get(metric.key)
        if score and score["difference"] < -allowed["score_drop"]:
            found.append(f"{metric.key} falls by {-score['difference']:.3f}, more than {allowed['score_drop']:g}")
    return found
