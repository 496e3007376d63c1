"""An adapter is merged if that changes no answer. Otherwise it is not, with a message."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.tiny_run import make_run
from peft import PeftModel

from qdsft.inference import merged_adapter
from qdsft.inference.loaded_run import load_prompts, load_run
from qdsft.inference.merged_adapter import difference, load_merged

QUESTIONS = [[{"role": "user", "content": text}] for text in ("Who is older?", "서울은?", "A " * 30)]


@pytest.fixture(scope="module", params=["llama", "gpt_neox"])
def adapter_run(request: pytest.FixtureRequest, tiny_model: Callable[[str], Path], tmp_path_factory: object) -> Path:
    folder: Path = tmp_path_factory.mktemp("runs")  # type: ignore[attr-defined]
    return make_run(folder / request.param, tiny_model(request.param), lora_scale=0.1)


def test_merged_answers_are_the_adapters(adapter_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    merged, apart = load_merged(load_prompts(adapter_run)), load_run(adapter_run)
    assert not isinstance(merged.model, PeftModel) and isinstance(apart.model, PeftModel)
    assert "not merged" not in capsys.readouterr().err
    answers = apart.answer(QUESTIONS, batch_size=3)
    assert merged.answer(QUESTIONS, batch_size=3) == answers
    with merged.untrained() as base, apart.untrained() as other_base:
        assert base.answer(QUESTIONS) == other_base.answer(QUESTIONS) != answers
    assert merged.answer(QUESTIONS) == apart.answer(QUESTIONS) == answers


def test_an_inexact_merge_is_undone_with_a_message(
    adapter_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = load_run(adapter_run).answer(QUESTIONS)
    monkeypatch.setitem(merged_adapter.TOLERANCE, torch.float32, 0.0)
    run = load_merged(load_prompts(adapter_run))
    assert isinstance(run.model, PeftModel) and run.answer(QUESTIONS) == expected
    assert "the adapter is not merged: a logit moves by " in capsys.readouterr().err


def test_an_adapter_that_cannot_be_merged_stays(
    adapter_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(self: PeftModel, **options: object) -> None:
        raise ValueError("NaNs detected in the merged weights")

    monkeypatch.setattr("peft.tuners.lora.LoraModel.merge_and_unload", broken)
    assert isinstance(load_merged(load_prompts(adapter_run)).model, PeftModel)
    assert "the adapter is not merged: NaNs detected" in capsys.readouterr().err


def test_a_whole_model_has_nothing_to_merge(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    run_dir = make_run(tmp_path / "run", tiny_model("llama"))
    assert load_merged(load_prompts(run_dir)).answer(QUESTIONS) == load_run(run_dir).answer(QUESTIONS)


def test_the_comparison() -> None:
    logits = [torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]])]
    nudged = [logits[0] + 0.01, logits[1]]
    assert difference(logits, logits, 0.0) == "" and difference(logits, nudged, 0.02) == ""
    assert difference(logits, nudged, 0.005) == "a logit moves by 0.01, more than 0.005"
    turned = [logits[0], torch.tensor([[0.0, 0.1, 0.0]])]
    assert difference(logits, turned, 9.0) == "1 greedy tokens of the golden prompts' answers would change"
