"""The list of metrics: what is derived from it, and a metric of one's own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from qdsft.data.prediction import PredictedSteps, PredictedText
from qdsft.metrics import catalog, scores
from qdsft.metrics.catalog import BY_KEY, METRICS, RANKING, Metric, of_kind, shown_in
from qdsft.metrics.scores import score

ANSWER = PredictedSteps.parse("Who is older?", ["How old is A?", "Is #1 above 3?"], "1. How old is A?", True)
KOREAN = replace(ANSWER, question="누가 나이가 많나요?")


def keys(metrics: Iterable[Metric]) -> set[str]:
    return {metric.key for metric in metrics}


def test_every_metric_has_a_key_of_its_own() -> None:
    assert len(BY_KEY) == len(METRICS)


def test_the_scores_of_a_row_are_the_metrics_of_its_task_in_reading_order() -> None:
    assert list(score(ANSWER)) == [metric.key for metric in METRICS if "decomposition" in metric.tasks]
    text = score(PredictedText("q", "a", "a", True))
    assert list(text) == [metric.key for metric in METRICS if "free text" in metric.tasks]
    assert text.keys() >= {"exact_match", "chrf", "stopped"} and "sari" not in text


def test_derived_lists() -> None:
    known = ["sari", "step_f1", "chrf", "exact_match"]
    assert [metric.key for metric in RANKING if metric.key in known] == known
    assert keys(shown_in("runs")) >= {"exact_match", "sari", "chrf", "valid"}
    assert keys(shown_in("merge")) >= {"exact_match", "sari", "chrf", "valid", "stopped"}
    assert keys(shown_in("merge limit")) >= {"exact_match", "sari"}
    assert keys(METRICS) > keys(shown_in("merge limit")) and "loss" not in keys(of_kind("score"))
    assert [metric.key for metric in of_kind("loss", "cost")] == [
        *("loss", "samples", "seconds", "new_tokens", "new_tokens_per_second")
    ]
    assert {metric.key for metric in METRICS if metric.option} >= {"ged", "normalized_exact_match"}
    assert (BY_KEY["ged"].direction, BY_KEY["sari"].direction) == ("lower is better", "higher is better")
    assert BY_KEY["samples"].direction == ""


def test_a_metric_of_ones_own_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Metric("first_step", "first step", "x", score_steps=lambda row: float(row.answer.steps[:1] == row.gold[:1]))
    monkeypatch.setattr(scores, "METRICS", (*catalog.METRICS, own))
    assert score(ANSWER)["first_step"] == 1.0
    assert "first_step" not in score(PredictedText("q", "a", "a", True))
    monkeypatch.setattr(scores, "METRICS", (replace(own, not_for=("ko",)),))
    assert (score(ANSWER), score(KOREAN)) == ({"first_step": 1.0}, {"first_step": None})
