"""Make merge certificates with invented figures."""

from __future__ import annotations

from typing import Any

from qdsft.runs.certificate import Agreement, AnswerAgreement, Certificate, LogitAgreement, ScoreChange, Thresholds


def make_agreement(mean_kl: float = 0.0, identical: float = 1.0, **changes: float) -> Agreement:
    """Return an agreement with these differences of scores."""
    return Agreement(
        logits=LogitAgreement(positions=9, largest_difference=0.1, mean_kl=mean_kl, same_greedy_token=1.0),
        answers=AnswerAgreement(compared=4, identical=identical),
        scores={name: ScoreChange(trained=0.5, merged=0.5 + by, difference=by) for name, by in changes.items()},
    )


def make_certificate(**values: Any) -> Certificate:
    """Return a certificate that passed, with `values` replaced."""
    given = {
        "passed": True,
        "failed": [],
        "base": "original",
        "dtype": "float32",
        "method": "LoRA, rank 4, merged",
        "base_model": {},
        "thresholds": Thresholds(mean_kl=1e-6, identical_answers=0.99, score_drop=0.02),
        "candidates": {"original": make_agreement()},
        "results_of_adapter": {},
        "example": None,
        "questions": "golden prompts",
        "run": "",
        "versions": {},
    }
    return Certificate(**{**given, **values})
