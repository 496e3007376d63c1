"""The loss for a CPU equals TRL's in every output and gradient, and TRL is changed only while it is in use."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
import torch
import trl.trainer.utils as utils
from helpers.paths import ROOT
from trl.kernels import ChunkedLogProbFunction

from qdsft.errors import UserError
from qdsft.training import cpu_loss
from qdsft.training.cpu_loss import LogProbs, SupervisedLogProbs, check_release, tile_width, used_by_trl

OUTPUTS = ("log_probs", "entropy", "is_top1")
POSITIONS, WIDTH, VOCABULARY = 7, 16, 2500


def score(
    function: Any, *, scale: float, train_head: bool, dtype: torch.dtype = torch.float32
) -> dict[str, torch.Tensor | None]:
    """Outputs and gradients; the gradient of each log-probability is another, as for losses that weight tokens."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(POSITIONS, WIDTH, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(VOCABULARY, WIDTH, generator=generator).to(dtype).requires_grad_(train_head)
    targets = torch.randint(VOCABULARY, (POSITIONS,), generator=generator)
    with torch.no_grad():
        targets[0] = (hidden @ weight.T)[0].argmax()
        targets[1] = targets[2]  # two gradients of one row of the head
    log_probs, entropy, _, _, is_top1 = function.apply(hidden, weight, None, targets, 2.0, 512, None, scale, OUTPUTS)
    (log_probs * torch.linspace(-1, 2, POSITIONS)).sum().backward()
    return {
        **{"log_probs": log_probs, "entropy": entropy, "is_top1": is_top1.float()},
        **{"hidden": hidden.grad, "weight": weight.grad},
    }


@pytest.mark.parametrize("train_head", [False, True])
@pytest.mark.parametrize("kept", [0, 2**26], ids=["computed again", "kept"])
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_it_equals_trl(train_head: bool, kept: int, scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_loss, "KEPT", kept)
    monkeypatch.setattr(cpu_loss, "TILE", 1)
    assert tile_width(POSITIONS, VOCABULARY) == 1024, "three tiles, the last of them narrower"
    ours = score(LogProbs, scale=scale, train_head=train_head)
    theirs = score(ChunkedLogProbFunction, scale=scale, train_head=train_head)
    assert ours["is_top1"] is not None and ours["is_top1"][0] == 1
    for name, value in theirs.items():
        assert (ours[name] is None) == (value is None), name
        if value is not None:
            torch.testing.assert_close(ours[name], value, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_a_bfloat16_head_is_summed_in_float32(scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Adding 2,500 exponentials in bfloat16 would be off by far more than the products are."""
    monkeypatch.setattr(cpu_loss, "TILE", 1)
    exact = score(LogProbs, scale=scale, train_head=False)
    half = score(LogProbs, scale=scale, train_head=False, dtype=torch.bfloat16)
    assert half["hidden"] is not None and half["hidden"].dtype == torch.bfloat16
    for name in ("log_probs", "entropy", "hidden"):
        ours, wanted = half[name], exact[name]
        assert ours is not None and wanted is not None
        torch.testing.assert_close(ours.float(), wanted, atol=0.05, rtol=0.02)
    assert half["is_top1"] is not None and half["is_top1"][0] == 1


@pytest.mark.parametrize("case", ["bias", "softcap", "bfloat16", "autocast", "evaluation"])
def test_other_cases_are_left_to_trl(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("ours was called")

    monkeypatch.setattr(SupervisedLogProbs, "apply", refuse)
    dtype = torch.bfloat16 if case == "bfloat16" else torch.float32
    hidden, weight = torch.ones(2, 4, dtype=dtype), torch.ones(8, 4, dtype=dtype, requires_grad=case == "bfloat16")
    bias = torch.ones(8) if case == "bias" else None
    softcap = 30.0 if case == "softcap" else None
    with torch.set_grad_enabled(case != "evaluation"), torch.autocast("cpu", enabled=case == "autocast"):
        found = LogProbs.apply(hidden, weight, bias, torch.tensor([0, 1]), 1.0, 512, softcap, 1.0, OUTPUTS)
    assert found[0].shape == (2,)


def test_no_supervised_position_is_no_error() -> None:
    hidden, weight = torch.zeros(0, 4).requires_grad_(), torch.ones(8, 4)
    found = LogProbs.apply(hidden, weight, None, torch.zeros(0, dtype=torch.long), 1.0, 512, None, 1.0, OUTPUTS)
    found[0].sum().backward()
    assert found[0].shape == (0,) and hidden.grad is not None


def test_trl_is_changed_only_inside_the_block() -> None:
    before = utils._use_triton, utils._ChunkedLogProbFunction
    with pytest.raises(KeyError), used_by_trl():
        assert utils._ChunkedLogProbFunction is LogProbs and utils._use_triton(torch.device("cpu"))
        raise KeyError
    assert (utils._use_triton, utils._ChunkedLogProbFunction) == before


def test_the_patched_release_is_the_pinned_one(monkeypatch: pytest.MonkeyPatch) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    major, minor = cpu_loss.TRL_RELEASE.split(".")
    assert f"trl>={cpu_loss.TRL_RELEASE}.0,<{major}.{int(minor) + 1}" in project["dependencies"]
    check_release()
    monkeypatch.setattr("trl.__version__", f"{cpu_loss.TRL_RELEASE}.9")
    check_release()
    monkeypatch.setattr("trl.__version__", "1.15.1")
    with pytest.raises(UserError, match="pip install 'trl==1"):
        check_release()
