"""The thresholds of a merge, and the comparison they apply to."""

from __future__ import annotations

import torch
from helpers.certificates import make_agreement

from qdsft.deploy.merge_agreement import IDENTICAL, MEAN_KL, Observed, compare_with_adapter, failures, limits


def test_thresholds_follow_the_coarser_dtype() -> None:
    full, half = limits([torch.float32, torch.float32]), limits([torch.float32, torch.bfloat16])
    assert full.mean_kl == MEAN_KL[torch.float32] < half.mean_kl == MEAN_KL[torch.bfloat16]
    assert full.identical_answers == IDENTICAL[torch.float32] > half.identical_answers


def test_failures_name_each_threshold_that_is_not_reached() -> None:
    full, half = limits([torch.float32]), limits([torch.bfloat16])
    assert failures(make_agreement(sari=-0.01), full) == []
    bad = make_agreement(0.02, 0.5, sari=-0.3, chrf=-0.3)
    assert [text.split()[0] for text in failures(bad, half)] == ["mean", "50%", "sari"]
    assert failures(make_agreement(float("nan")), full) != []


def test_equal_models_agree_and_a_changed_logit_is_measured() -> None:
    logits = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    trained = Observed(("a", "b"), [logits], {"sari": 0.5})
    same = compare_with_adapter(trained, trained)
    assert (same.logits.mean_kl, same.logits.largest_difference, same.logits.same_greedy_token) == (0, 0, 1)
    assert same.answers.identical == 1 and same.scores["sari"].difference == 0
    changed = compare_with_adapter(
        trained, Observed(("a", "c"), [logits + torch.tensor([[2.0, 0.0], [0.0, 0.0]])], {"sari": 0.4})
    )
    assert changed.logits.mean_kl > 0.1 and changed.logits.largest_difference == 2
    assert changed.logits.same_greedy_token == 0.5 and changed.answers.identical == 0.5
    assert changed.scores["sari"].difference == -0.1
